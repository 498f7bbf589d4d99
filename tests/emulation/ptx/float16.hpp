#pragma once
// tests/emulation/ptx: IEEE half precision, bit by bit.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace fpdist::ptx {

inline float from_float16(uint32_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                   : std::ldexp(static_cast<float>(1024 + fraction), static_cast<int>(exponent) - 25);
  return sign != 0 ? -size : size;
}

/// To the nearest, ties to even; infinite from 65520 on.
inline uint32_t to_float16(float x) {
  if (x != x) return 0x7fff;
  const uint32_t sign = std::signbit(x) ? 0x8000 : 0;
  const float size = std::fabs(x);
  if (size == 0) return sign;
  if (size >= 65520.0f) return sign | 0x7c00;
  int exponent = 0;
  std::frexp(size, &exponent);
  exponent = std::max(exponent, -13);  // below it steps stay 2^-24
  const auto steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(size, 11 - exponent)));
  // 1024 to 2048 steps are a normal number's fraction and its leading one, which is one more of the exponent.
  return sign | ((static_cast<uint32_t>(exponent + 13) << 10) + steps);
}

}  // namespace fpdist::ptx
