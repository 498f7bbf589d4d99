#pragma once
// generate, private: the rows of prompts that are decoded together. The prompts' forest in DFS pre-order; behind the
// last row of each prompt the leaves of its completions, each with room for some rows; at the end padding rows that
// see nobody and that nobody sees, to fill calls up with. Spacing are row numbers: place r holds row r's keys.
// Aligned, for batch invariance: a row's place and its depth are the same modulo kPanel, each leaf and each run of
// prompts' rows begins in a panel of its own, and prompts that are not equal share whole panels alone. What of its path
// a row sees in which panel is then a matter of its path. Spacing between are nobody's.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/generate/options.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "src/generate/sharing.hpp"
#include "src/generate/spacing.hpp"

namespace fpdist::generate {

/// A completion's rows.
struct Leaf {
  size_t prompt = 0;  ///< of the wave
  int64_t room = 0;   ///< rows
};

struct Wave {
  prefix::TreeLayout forest;      ///< of the prompts
  std::vector<int32_t> row;       ///< [forest rows] their places, ascending
  std::vector<int32_t> end;       ///< [places] subtree ends, exclusive
  std::vector<int32_t> last_row;  ///< [prompts] forest row of each prompt's last token
  std::vector<int32_t> leaf;      ///< [leaves] first place of each one's room
  int64_t padding_rows = kPadding;
  int64_t places() const { return static_cast<int64_t>(end.size()); }
  int32_t padding(int64_t i) const { return static_cast<int32_t>(places() - padding_rows + i); }
};

/// Places whose keys move from one wave to the next, in any order; each `to` once.
struct Moves {
  std::vector<int32_t> from, to;
};

/// Of prompts in sharing's order, the leaves' likewise. Throws DataError for more rows than an int32 counts.
Wave make_wave(std::span<const std::vector<int32_t>* const> prompts, std::span<const Leaf> leaves,
               const Sharing& sharing = Sharing(), Spacing spacing = Spacing::kDense);

/// Forest rows of one of the wave's prompts, by depth.
std::vector<int32_t> path_of(const Wave& wave, size_t prompt);

}  // namespace fpdist::generate
