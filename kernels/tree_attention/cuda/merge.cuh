#pragma once
// tree_attention on the GPU: a row's parts, each over some of its keys, put together in a fixed order.

#include <cmath>

#include "kernels/cuda/vector.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"

namespace fpdist::kernels {

/// Of the row's parts [begin, end): four elements of its output, and its log of the sum of weights, -inf without keys.
/// part_at tells which part is the row's at-th; lse_at and four_at, where that part has its own.
template <typename PartAt, typename LseAt, typename FourAt>
__device__ __forceinline__ float merge_parts(float (&out)[4], int begin, int end, PartAt part_at, LseAt lse_at,
                                             FourAt four_at) {
  float top = -INFINITY, sum = 0;
#pragma unroll 1
  for (int at = begin; at < end; ++at) top = fmaxf(top, __ldg(lse_at(part_at(at))));
  const float base = top == -INFINITY ? 0 : top;
#pragma unroll 1
  for (int at = begin; at < end; ++at) {
    const auto part = part_at(at);
    const float weight = exp2_fast((__ldg(lse_at(part)) - base) * kLog2E);
    float of_part[4];
    expand(load<4>(four_at(part)), of_part);
    sum += weight;
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = fmaf(weight, of_part[i], out[i]);
  }
  const float factor = sum > 0 ? 1 / sum : 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) out[i] *= factor;
  return sum > 0 ? base + log2_fast(sum) * kLn2 : -INFINITY;
}

}  // namespace fpdist::kernels
