#pragma once
// data: samples behind virtual tokens, whose ids are no token's (arch::Prefix of embeddings). Rows of their own ahead
// of each sample, which all samples share as they share any prefix.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/data/sample.hpp"

namespace fpdist::data {

/// Ids [first_id, first_id + count).
struct VirtualTokens {
  int32_t first_id = 0;
  int64_t count = 0;  ///< 0: there are none
};

/// A sample behind them: they are part of its prompt and no targets. Its first token is a target like any other then,
/// as it has a source row, unless `keeps_first_target` is false.
void put_behind(const VirtualTokens& tokens, bool keeps_first_target, Sample& sample);

/// Groups of such samples.
std::vector<Group> behind(const VirtualTokens& tokens, bool keeps_first_target, std::span<const Group> groups);

}  // namespace fpdist::data
