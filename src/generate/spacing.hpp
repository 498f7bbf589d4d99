#pragma once
// generate, private: how many places rows take. No torch: plans count them too.

#include <cstdint>
#include <vector>

#include "fpdist/generate/options.hpp"

namespace fpdist::generate {

/// Calls have multiples of so many rows: products round otherwise where they have few.
constexpr int64_t kPadding = 16;

/// Keys that attention takes together, by their places (ops::kInvariantPanel).
constexpr int64_t kPanel = 64;

/// Aligned: for batch invariance (wave.hpp).
enum class Spacing { kDense, kAligned };
inline Spacing spacing_of(const SamplingOptions& options) {
  return options.batch_invariant ? Spacing::kAligned : Spacing::kDense;
}
/// Of padding rows: calls have multiples of so many.
inline int64_t padding_of(Spacing spacing) { return spacing == Spacing::kAligned ? kPanel : kPadding; }

/// Spacing that a prompt of so many rows takes, of which `shared` are the one's before it; that a leaf behind it
/// takes.
int64_t places_of_prompt(int64_t rows, int64_t shared, Spacing spacing);
int64_t places_of_leaf(int64_t prompt_rows, int64_t room, Spacing spacing);

/// Places that a prompt alone needs with all its completions at their longest: with fewer nobody can enter.
int64_t places_alone(const std::vector<int32_t>& prompt, const SamplingOptions& options);

}  // namespace fpdist::generate
