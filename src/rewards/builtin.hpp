#pragma once
// rewards (private): the built-in rewards by name.

#include <cstdint>
#include <string_view>

#include "fpdist/rewards/rewards.hpp"

namespace fpdist::rewards {

/// What is known by this name. Throws ConfigError for a name that none has, and for options of it that make no sense.
RewardFunction make_builtin(std::string_view name, const RewardOptions& options, int64_t max_completion_length);

}  // namespace fpdist::rewards
