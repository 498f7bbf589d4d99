#pragma once
// tests/emulation/ptx: what mma and wgmma share. Sums run along k in order, in float32: a GPU's tensor cores add in
// another order and with fewer bits, so tolerances belong at bfloat16's level.

#include <vector>

#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {

void need_32_lanes(const Warp& warp, const Op& op);

using Expand = float(uint32_t bits);  ///< of a 16-bit element

/// A's 16 x 16 from four registers: register q has A[g + 8 (q & 1)][2t + 8 (q >> 1) + {0,1}].
template <Expand expand>
void read_a_tile(Warp& warp, const std::vector<Register>& from, float (*a)[16]) {
  for (size_t q = 0; q < 4; ++q)
    for (size_t lane = 0; lane < 32; ++lane) {
      const uint32_t pair = warp.r(from[q])[lane];
      const size_t row = lane / 4 + 8 * (q & 1), column = lane % 4 * 2 + 8 * (q >> 1);
      a[row][column] = expand(pair & 0xffff), a[row][column + 1] = expand(pair >> 16);
    }
}

/// c += a b for 16 x 16 by 16 x kColumns.
template <int kColumns>
void multiply_tile(const float (*a)[16], const float (*b)[kColumns], float (*c)[kColumns]) {
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < kColumns; ++column) c[row][column] += a[row][k] * b[k][column];
}

}  // namespace fpdist::ptx
