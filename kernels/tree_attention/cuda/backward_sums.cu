// tree_attention, backward: a warp goes once over a query's outputs and their gradients; keys that were cut are put
// together again.
#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>

#include "kernels/tree_attention/cuda/backward_sums.hpp"
#include "kernels/tree_attention/cuda/rows.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"
#include "kernels/tree_attention/cuda/work.cuh"

namespace fpdist::kernels {
namespace {

constexpr int kRowsOfBlock = 8, kSumThreads = 256;

/// Two of them.
__device__ __forceinline__ float2 load_two(const float* from) { return __ldg(reinterpret_cast<const float2*>(from)); }
template <typename T>
__device__ __forceinline__ float2 load_two(const T* from) {
  const uint32_t pair = __ldg(reinterpret_cast<const uint32_t*>(from));
  return {low_of(pair, T{}), high_of(pair, T{})};
}

/// Gradients of T, outputs of Out.
template <typename T, typename Out>
__global__ void __launch_bounds__(32 * kRowsOfBlock)
    tree_attention_row_sums(const __grid_constant__ TreeAttentionBackwardArguments a, int64_t padded) {
  const int lane = threadIdx.x % 32, head = static_cast<int>(blockIdx.x);
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kRowsOfBlock + threadIdx.x / 32;
  float log_sum = INFINITY, sum = 0;
  if (row < a.q.rows) {
    const auto* const grad =
        static_cast<const T*>(a.grad_out.data) + row * a.grad_out.row_stride + head * a.grad_out.head_stride;
    const Out* const out = static_cast<const Out*>(a.out) + (row * a.q.heads + head) * a.q.size;
#pragma unroll 2
    for (int column = 2 * lane; column < a.q.size; column += 64) {
      const float2 up = load_two(grad + column), own = load_two(out + column);
      sum += up.x * own.x + up.y * own.y;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (const float lse = __ldg(a.lse + row * a.q.heads + head); lse != -INFINITY) log_sum = lse * kLog2E;
  }
  if (lane != 0 || row >= padded) return;
  float* const place = a.row_sums + head * padded + row;
  place[0] = log_sum, place[a.q.heads * padded] = sum;
}

/// What the parts of lists that are cut have come to: by the grid's y `results` results, whose elements stand [parts,
/// results, cut.blocks, count] in `parts`; each has `elements`.
struct CutSums {
  const float* parts;
  void* result[2];
  int results;
  ListCut cut;
  const int32_t* order;
  int64_t count, elements;
};

/// The parts' sums, in their order: of the grid's z-th block.
template <typename T>
__global__ void __launch_bounds__(kSumThreads) tree_attention_sum_parts(const __grid_constant__ CutSums s) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * 4, all = s.cut.blocks * s.count;
  const int64_t to = __ldg(s.order + blockIdx.z) * s.count + at;
  if (at >= s.count || to >= s.elements) return;
  const float* from = s.parts + blockIdx.y * all + blockIdx.z * s.count + at;
  float sum[4] = {};
  for (int part = 0; part < s.cut.parts; ++part, from += s.results * all) {
    float own[4];
    expand(load<4>(from), own);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] += own[i];
  }
  store_four(static_cast<T*>(blockIdx.y == 0 ? s.result[0] : s.result[1]) + to, sum);
}

cudaError_t launch_sums(const CutSums& s, Element factor, Element result, cudaStream_t stream) {
  if (s.cut.blocks == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>((s.count / 4 + kSumThreads - 1) / kSumThreads),
                  static_cast<unsigned>(s.results), static_cast<unsigned>(s.cut.blocks));
  with_factor(factor, [&](auto rounded) {
    with_element<decltype(rounded)>(
        result, [&](auto to) { tree_attention_sum_parts<decltype(to)><<<grid, kSumThreads, 0, stream>>>(s); });
  });
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_row_sums(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  const int64_t padded = padded_queries(a);
  const dim3 grid(static_cast<unsigned>(a.q.heads), static_cast<unsigned>(padded / kRowsOfBlock));
  with_factor(a.element, [&](auto factor) {
    using T = decltype(factor);
    with_element<T>(a.merged, [&](auto out) {
      tree_attention_row_sums<T, decltype(out)><<<grid, 32 * kRowsOfBlock, 0, stream>>>(a, padded);
    });
  });
  return cudaGetLastError();
}

cudaError_t launch_part_sums(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  const int64_t row = int64_t{a.k.heads} * a.k.size;
  return launch_sums({.parts = a.partial,
                      .result = {a.dk, a.dv},
                      .results = 2,
                      .cut = a.cut,
                      .order = a.by_key.order,
                      .count = kKeyBlock * row,
                      .elements = a.k.rows * row},
                     a.element, a.result, stream);
}

cudaError_t launch_query_part_sums(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  const int64_t row = int64_t{a.q.heads} * a.q.size;
  return launch_sums({.parts = a.dq_parts,
                      .result = {a.dq, nullptr},
                      .results = 1,
                      .cut = a.query_cut,
                      .order = a.by_query.order,
                      .count = kQueryBlock * row,
                      .elements = a.q.rows * row},
                     a.element, a.result, stream);
}

ListCut cut_lists(std::span<const int64_t> lengths, int64_t heads, int processors) {
  const int64_t tiles = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  // A quarter more than a processor's share: what is cut has to be added up again.
  const int64_t most = std::max<int64_t>(tiles * heads * 5 / (int64_t{4} * processors), 1);
  if (lengths.empty() || lengths.front() <= most) return {};
  const int64_t parts = std::min<int64_t>((lengths.front() + most - 1) / most, kMostCuts);
  const auto cut = std::ranges::find_if(lengths, [&](int64_t length) { return length <= most; });
  return {static_cast<int>(parts), static_cast<int>(cut - lengths.begin())};
}

}  // namespace fpdist::kernels
