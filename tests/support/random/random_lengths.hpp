#pragma once
// Tests: length trees for tests of the planner.

#include <cstdint>
#include <string>

#include "fpdist/core/rng.hpp"
#include "src/plan/pack/length_tree.hpp"

namespace fpdist::test {

inline std::string random_object(Rng& rng, int64_t longest, int depth) {
  std::string text = "{\"prefix\": " + std::to_string(rng.below(static_cast<uint64_t>(longest)));
  const bool is_inner = depth > 0 && rng.below(4) == 0;
  text += is_inner ? ", \"children\": [" : ", \"completions\": [";
  for (uint64_t i = 0, n = 1 + rng.below(4); i < n; ++i) {
    if (i) text += ", ";
    text +=
        is_inner ? random_object(rng, longest, depth - 1) : std::to_string(rng.below(static_cast<uint64_t>(longest)));
  }
  return text + "]}";
}

/// `lines` lines of up to three levels; every length below `longest`, 0 included.
inline plan::LengthTree random_lengths(Rng& rng, int lines, int64_t longest) {
  std::string text;
  for (int line = 0; line < lines; ++line) text += random_object(rng, longest, 2) + "\n";
  return plan::parse_lengths(text, "random");
}

}  // namespace fpdist::test
