#pragma once
// core: counter-based random numbers. A draw is a pure function of (key, counter): no state to save, the same on every
// rank and every mesh. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), Philox4x32-10.

#include <array>
#include <cstdint>

namespace fpdist {

/// Philox4x32-10 block: four 32-bit words for (key, counter).
std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_low, uint64_t counter_high = 0);

/// A stream of numbers for one purpose: Rng(seed, stream) never overlaps Rng(seed, other_stream).
/// Satisfies std::uniform_random_bit_generator.
class Rng {
 public:
  using result_type = uint64_t;
  explicit Rng(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return ~result_type{0}; }
  result_type operator()();
  /// Uniform integer in [0, bound), without modulo bias; bound > 0.
  uint64_t below(uint64_t bound);
  /// Uniform double in [0, 1).
  double uniform();
  /// Standard normal (Box-Muller, one draw a call).
  double normal();

 private:
  uint64_t seed_, stream_, counter_ = 0;
};

}  // namespace fpdist
