#pragma once
// core: splitmix64's finaliser, which spreads every bit of a number over all of it. Source: Steele et al., "Fast
// splittable pseudorandom number generators" (OOPSLA 2014).

#include <cstdint>

namespace fpdist {

/// What its generator adds from one number to the next: the golden ratio's bits.
inline constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ULL;

inline constexpr uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace fpdist
