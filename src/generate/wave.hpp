#pragma once
// generate, private: the rows of prompts that are decoded together. The prompts' forest in DFS pre-order; behind the
// last row of each prompt the leaves of its completions, each with room for some rows; at the end kPadding rows that
// see nobody and that nobody sees, to fill calls up with. Places are row numbers: place r holds row r's keys.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/prefix/tree_layout.hpp"
#include "src/generate/sharing.hpp"

namespace fpdist::generate {

/// Calls have multiples of so many rows: products round otherwise where they have few.
constexpr int64_t kPadding = 16;

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
  int64_t places() const { return static_cast<int64_t>(end.size()); }
  int32_t padding(int64_t i) const { return static_cast<int32_t>(places() - kPadding + i); }
};

/// Places whose keys move from one wave to the next, in any order; each `to` once.
struct Moves {
  std::vector<int32_t> from, to;
};

/// Of prompts in sharing's order. Throws DataError for more rows than an int32 counts.
Wave make_wave(std::span<const std::vector<int32_t>* const> prompts, std::span<const Leaf> leaves,
               const Sharing& sharing = Sharing());

/// Forest rows of one of the wave's prompts, by depth.
std::vector<int32_t> path_of(const Wave& wave, size_t prompt);

}  // namespace fpdist::generate
