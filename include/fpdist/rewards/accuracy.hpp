#pragma once
// rewards: completions that are right or wrong.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fpdist/rewards/rewards.hpp"

namespace fpdist::rewards {

/// [texts] whether each is right: its first reward of `names` that checks (is_check) says 1, or where none checks its
/// total is 1 or more.
std::vector<bool> right_ones(std::span<const Values> by_name, std::span<const std::string> names, const Values& total);

/// accuracy, the share of right completions, and pass at k: the mean over prompts, each with `of_prompt` completions.
/// Each with its standard error, NAME_stderr, as prompts vary: 0 of a single one.
std::map<std::string, double> shares_of(const std::vector<bool>& right, int64_t of_prompt,
                                        std::span<const int64_t> pass_at_k);

}  // namespace fpdist::rewards
