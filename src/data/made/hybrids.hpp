#pragma once
// data: rows for Prefix-RFT out of demonstrations: prompts that end in the beginning of one, for fpdist_generate, and
// groups of what it has made of these and of the plain prompts.

#include <cstdint>
#include <string>

#include "fpdist/data/prefix_lengths.hpp"

namespace fpdist::data {

struct PrefixPromptOptions {
  std::string input;  ///< JSON lines with prompt_ids and demonstration_ids
  PrefixLengths lengths = {};
  int64_t step = 0;
  uint64_t seed = 0;
};

/// A JSON line a row of the input: prompt_ids with the demonstration's first tokens behind them, prefix_length says how
/// many these are, drawn by (seed, step, number of the row); its other columns but the demonstration. Throws DataError
/// ("file:line: reason") for what is no such row, ConfigError for lengths that make no sense.
std::string prefix_prompts(const PrefixPromptOptions& options);

/// `plain` and `hybrid`: rows of fpdist_generate with rewards, the latter of prefix_prompts' prompts. The plain rows
/// with the hybrids of the same prompt among their completions, each behind its prefix again. Log-probs are left out:
/// nobody has those of the demonstrations. Throws DataError for rows that are none and for hybrids of no plain row.
std::string hybrid_groups(const std::string& plain, const std::string& hybrid);

}  // namespace fpdist::data
