#pragma once
// kernels: loops that the compiler vectorises for the machine they run on. The build targets plain x86-64; a function
// marked FPDIST_CPU_CLONES is compiled several times and the loader picks the widest that the processor has.

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FPDIST_CPU_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FPDIST_CPU_CLONES
#endif

namespace fpdist::kernels {

/// Independent partial sums of a row: one vector register of floats, so that a sum vectorises with a fixed order.
inline constexpr int kLanes = 16;

/// exp with a relative error below 2e-7, branch-free; arguments below -87 give 0 to 1e-38. Cody-Waite reduction and a
/// degree-7 polynomial (coefficients: Taylor, enough on |r| <= ln2/2).
__attribute__((always_inline)) inline float vector_exp(float x) {
  const float clamped = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float shifted = clamped * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t exponent = (std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(12582912.0f) + 127) << 23;
  return x < -87.0f ? 0.0f : p * std::bit_cast<float>(exponent);
}
inline double vector_exp(double x) { return std::exp(x); }

/// An element as it lies in memory, bfloat16 by its bits, which loops can convert side by side.
template <typename T>
using Stored = std::conditional_t<std::is_same_v<T, float> || std::is_same_v<T, double>, T, uint16_t>;
/// What it adds up in.
template <typename S>
using Summed = std::conditional_t<std::is_same_v<S, double>, double, float>;

__attribute__((always_inline)) inline float loaded(float x) { return x; }
__attribute__((always_inline)) inline double loaded(double x) { return x; }
__attribute__((always_inline)) inline float loaded(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// To the nearest, ties to even; what is not a number stays none.
template <typename S, typename A>
__attribute__((always_inline)) inline S stored(A x) {
  if constexpr (std::is_same_v<S, uint16_t>) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return static_cast<uint16_t>(x != x ? 0x7fc0 : nearest);
  } else {
    return x;
  }
}

}  // namespace fpdist::kernels
