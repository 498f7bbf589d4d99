#pragma once
// data: samples behind virtual tokens, whose ids are no token's (rows of arch::Prefix). Rows of their own ahead of each
// sample, which all samples of a prefix share as they share any other.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/data/sample.hpp"

namespace fpdist::data {

struct VirtualTokens {
  /// Of a sample the ids [first_id, first_id + count), or of several prefixes those of its group's number, the prefixes
  /// one behind the other. Contexts are numbered as they first come.
  int32_t first_id = 0;
  int64_t count = 0;        ///< 0: there are none
  int64_t context_dim = 0;  ///< above 0: a group stands behind the prefix of its context, of so many numbers
  int64_t prefixes = 0;     ///< a group stands behind the one that its source names; 0: all behind the same
  /// A sample's first token is a target like any other, as it has a source row, the last virtual token's.
  bool keeps_first_target = false;
  double drop = 0;    ///< part of a step's groups that stand behind none
  uint64_t seed = 0;  ///< that these are drawn by, with the step and the group's id
};

/// Groups behind them: they are part of the prompt and no targets. `step`: the number of the step that the groups are
/// of; 0: of none, and all stand behind theirs. Throws DataError for a source that names no prefix, and for a context
/// of another size or with numbers that are not finite.
std::vector<Group> behind(const VirtualTokens& tokens, std::span<const Group> groups, int64_t step);

}  // namespace fpdist::data
