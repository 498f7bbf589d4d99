// selected_logprob: a block goes along its row tile by tile; a lane has four vectors of each under way before it waits
// for the first. Forward is the online softmax: each lane keeps the largest logit that it has seen, and its sums
// relative to that; in the end they are brought to the row's largest and added. Scores are in the order of their rows,
// so a row's are found by searching, and nothing about them has to be prepared.
//
// Backward writes over what it reads. A bfloat16 gradient is half as wide as its logit, so a tile's lands on logits of
// earlier tiles, and, for the first, on its own: once all of the block's threads have read their part of a tile, it may
// be written.
#include "kernels/cuda/vector.cuh"
#include "kernels/selected_logprob/cuda/selected_logprob_kernel.hpp"

namespace fpdist::kernels {
namespace {

constexpr int kMostThreads = 512, kBlocksOfSm = 2;
constexpr int kVector = 4, kAccessesOfLane = 4;  // floats in 16 bytes; vectors of a lane in a tile
constexpr uint32_t kMarkWords = 2048, kNoMark = ~0u;
constexpr float kNothing = -1e25f;  // in place of a logit beyond the row: below any, and no product of it overflows
constexpr float kLog2E = 1.44269504f;

using Tile = float[kAccessesOfLane][kVector];

/// 2^x; 0 for what float32 holds with fewer bits only.
__device__ __forceinline__ float exp2_of(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/// A row of logits is written by the block that reads it.
__device__ __forceinline__ uint4 load_before_writing(const float* from) {
  uint4 bits;
  asm volatile("ld.global.cs.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "l"(from)
               : "memory");
  return bits;
}
__device__ __forceinline__ uint32_t load_one_before_writing(const float* from) {
  uint32_t bits;
  asm volatile("ld.global.cs.u32 %0, [%1];" : "=r"(bits) : "l"(from) : "memory");
  return bits;
}

/// The column where the lane's k-th vector of the tile at `begin` starts.
__device__ __forceinline__ uint32_t column_of(uint32_t begin, int k) {
  return begin + (threadIdx.x + static_cast<uint32_t>(k) * blockDim.x) * kVector;
}

/// The lane's part of a tile; kNothing beyond the row.
template <bool kIsWritten>
__device__ __forceinline__ void load_tile(const float* row, uint32_t begin, uint32_t vocabulary, Tile& z) {
#pragma unroll
  for (int k = 0; k < kAccessesOfLane; ++k) {
    const uint32_t column = column_of(begin, k);
    if (column + kVector <= vocabulary) {
      expand(kIsWritten ? load_before_writing(row + column) : load<kVector>(row + column), z[k]);
      continue;
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      z[k][i] = kNothing;
      if (column + i >= vocabulary) continue;
      z[k][i] = __uint_as_float(kIsWritten ? load_one_before_writing(row + column + i) : load<1>(row + column + i));
    }
  }
}

/// The first of the ascending score_row that is `row` or more; `scores` if none is. A whole warp calls it.
__device__ __forceinline__ uint32_t first_score(const int64_t* score_row, uint32_t scores, int64_t row) {
  uint32_t low = 0, high = scores;
  while (low < high) {
    const uint32_t step = (high - low + 31) / 32, probe = low + threadIdx.x % 32 * step;
    const bool is_before = probe < high && __ldg(score_row + probe) < row;
    const auto before = static_cast<uint32_t>(__popc(__ballot_sync(0xffffffffu, is_before)));
    if (before == 0) return low;
    high = min(high, low + before * step);
    low += (before - 1) * step + 1;
  }
  return low;
}

/// The row's scores are [range[0], range[1]) after the next barrier. All threads of the block call it.
__device__ __forceinline__ void find_scores(const LogprobRows& at, int64_t row, uint32_t (&range)[2]) {
  const uint32_t warp = threadIdx.x / 32;
  if (warp >= 2) return;
  const uint32_t found = first_score(at.score_row, static_cast<uint32_t>(at.scores), row + warp);
  if (threadIdx.x % 32 == 0) range[warp] = found;
}

/// What a lane, a warp or the block knows of its part of the row: the largest logit, the first column that has it, and
/// over all with x = log2(e) * factor * (z - largest): sums of 2^x and of 2^x * x.
struct Seen {
  float largest = kNothing;
  uint32_t column = 0;
  float sum = 0.0f, weighted = 0.0f;
};

/// The sums relative to a larger logit.
__device__ __forceinline__ void raise(Seen& seen, float largest, float scale) {
  const float moved = (seen.largest - largest) * scale, shrink = exp2_of(moved);
  seen.weighted = shrink * (seen.weighted + seen.sum * moved);
  seen.sum *= shrink;
  seen.largest = largest;
}

__device__ __forceinline__ void add_tile(Seen& seen, const Tile& z, uint32_t begin, float scale) {
  float largest = z[0][0];
#pragma unroll
  for (int k = 0; k < kAccessesOfLane; ++k)
#pragma unroll
    for (int i = 0; i < kVector; ++i) largest = fmaxf(largest, z[k][i]);
  if (largest > seen.largest) {
    raise(seen, largest, scale);
#pragma unroll
    for (int k = kAccessesOfLane - 1; k >= 0; --k)
#pragma unroll
      for (int i = kVector - 1; i >= 0; --i)
        if (z[k][i] == largest) seen.column = column_of(begin, k) + i;
  }
#pragma unroll
  for (int k = 0; k < kAccessesOfLane; ++k)
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float x = (z[k][i] - seen.largest) * scale, e = exp2_of(x);
      seen.sum += e;
      seen.weighted += e * x;
    }
}

/// The larger; of equals the one that comes first in the row.
__device__ __forceinline__ void take_larger(float& largest, uint32_t& column, float other, uint32_t other_column) {
  if (other > largest || (other == largest && other_column < column)) largest = other, column = other_column;
}

struct BlockScratch {
  float largest[kMostThreads / 32], sum[kMostThreads / 32], weighted[kMostThreads / 32];
  uint32_t column[kMostThreads / 32];
};

/// The block's, on all of its threads, which all call it: two barriers.
__device__ __forceinline__ Seen seen_by_block(Seen seen, float scale, BlockScratch& scratch) {
  const uint32_t warp = threadIdx.x / 32, warps = blockDim.x / 32;
  float largest = seen.largest;
  uint32_t column = seen.column;
  for (int offset = 16; offset > 0; offset /= 2)
    take_larger(largest, column, __shfl_xor_sync(0xffffffffu, largest, offset),
                __shfl_xor_sync(0xffffffffu, column, offset));
  if (threadIdx.x % 32 == 0) scratch.largest[warp] = largest, scratch.column[warp] = column;
  __syncthreads();
  largest = scratch.largest[0], column = scratch.column[0];
  for (uint32_t other = 1; other < warps; ++other)
    take_larger(largest, column, scratch.largest[other], scratch.column[other]);
  raise(seen, largest, scale);
  for (int offset = 16; offset > 0; offset /= 2) {
    seen.sum += __shfl_xor_sync(0xffffffffu, seen.sum, offset);
    seen.weighted += __shfl_xor_sync(0xffffffffu, seen.weighted, offset);
  }
  if (threadIdx.x % 32 == 0) scratch.sum[warp] = seen.sum, scratch.weighted[warp] = seen.weighted;
  __syncthreads();
  seen = {largest, column, 0.0f, 0.0f};
  for (uint32_t other = 0; other < warps; ++other)
    seen.sum += scratch.sum[other], seen.weighted += scratch.weighted[other];
  return seen;
}

__global__ void __launch_bounds__(kMostThreads, kBlocksOfSm)
    selected_logprob_forward(const __grid_constant__ LogprobArguments a) {
  __shared__ BlockScratch scratch;
  __shared__ uint32_t range[2];
  const int64_t row = a.at.first_row + blockIdx.x;
  const float* const logits = a.logits + static_cast<int64_t>(blockIdx.x) * a.at.stride;
  const auto vocabulary = static_cast<uint32_t>(a.at.vocabulary);
  const float scale = a.at.factor * kLog2E;
  find_scores(a.at, row, range);
  Seen own;
#pragma unroll 1
  for (uint32_t begin = 0; begin < vocabulary; begin += blockDim.x * kVector * kAccessesOfLane) {
    Tile z;
    load_tile<false>(logits, begin, vocabulary, z);
    add_tile(own, z, begin, scale);
  }
  const Seen whole = seen_by_block(own, scale, scratch);
  const float log_sum = logf(whole.sum);
  if (threadIdx.x == 0) {
    const float best = whole.largest * a.at.factor;
    a.best[row] = best;
    a.lse[row] = best + log_sum;
    a.entropy[row] = log_sum - whole.weighted / (whole.sum * kLog2E);
    a.argmax[row] = whole.column;
  }
  for (uint32_t score = range[0] + threadIdx.x; score < range[1]; score += blockDim.x) {
    const auto column = static_cast<uint64_t>(__ldg(a.at.target + score));
    float logit = -__int_as_float(0x7f800000);
    if (column < vocabulary) {
      const float z = __ldg(logits + column);
      logit = a.is_relative ? (z - whole.largest) * a.at.factor - log_sum : z * a.at.factor;
    }
    a.logit[score] = logit;
  }
}

/// Of the row's scores: their gradients' sum, and which vectors of the row have one. Marks of vectors that are
/// kMarkWords * 32 apart are the same: they only say where to look.
struct RowScores {
  uint32_t range[2];
  uint32_t mark[kMarkWords];
  float grad;
  uint32_t reached;  ///< 0: no gradient is other than 0
};

/// One warp, after the range is known and the marks are 0.
__device__ __forceinline__ void mark_scores(const LogprobBackwardArguments& a, RowScores& scores) {
  const uint32_t lane = threadIdx.x, first = scores.range[0], last = scores.range[1];
  float sum = 0.0f;
  uint32_t reached = 0;
  for (uint32_t begin = first; begin < last; begin += 32) {
    const uint32_t count = min(last - begin, 32u);
    float grad = 0.0f;
    uint32_t vector = kNoMark;  // of the lane's score, the number of its mark
    if (lane < count) {
      grad = __ldg(a.grad_logp + begin + lane);
      const auto column = static_cast<uint64_t>(__ldg(a.at.target + begin + lane));
      if (column < static_cast<uint64_t>(a.at.vocabulary)) vector = column / kVector % (kMarkWords * 32);
    }
    sum += grad;
    reached |= __ballot_sync(0xffffffffu, grad != 0.0f);
    for (uint32_t other = 0; other < count; ++other) {
      const uint32_t marked = __shfl_sync(0xffffffffu, vector, static_cast<int>(other));
      if (lane == 0 && marked != kNoMark) scores.mark[marked / 32] |= 1u << marked % 32;
    }
  }
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  if (lane == 0) scores.grad = sum, scores.reached = reached;
}

/// Adds to d, the gradient at `column` and the next ones, the scores' own, in their order.
__device__ __forceinline__ void add_scores(const LogprobBackwardArguments& a, const RowScores& scores, uint32_t column,
                                           float (&d)[kVector]) {
#pragma unroll 1
  for (uint32_t score = scores.range[0]; score < scores.range[1]; ++score) {
    const int64_t place = __ldg(a.at.target + score) - column;
    const float grad = __ldg(a.grad_logp + score);
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      if (place == i) d[i] += grad;
  }
}

template <typename T>
__device__ __forceinline__ void store_vector(T* row, uint32_t column, uint32_t vocabulary, const float (&d)[kVector]) {
  if (column + kVector <= vocabulary) return store<kVector>(row + column, pack(d, T{}));
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const float one[1] = {d[i]};
    if (column + i < vocabulary) store<1>(row + column + i, pack(one, T{}));
  }
}

/// What is the same for the whole row: d = 2^(log2(e) * log p) * (pull - push * log p) * factor.
struct RowGradient {
  float lse, pull, push;
};

template <typename T>
__device__ __forceinline__ void backward_tile(const LogprobBackwardArguments& a, const RowScores& scores,
                                              const RowGradient& of, const Tile& z, uint32_t begin, T* to) {
  const auto vocabulary = static_cast<uint32_t>(a.at.vocabulary);
#pragma unroll
  for (int k = 0; k < kAccessesOfLane; ++k) {
    const uint32_t column = column_of(begin, k), vector = column / kVector;
    if (column >= vocabulary) return;  // and so are the next ones
    float d[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float log_p = z[k][i] * a.at.factor - of.lse;
      d[i] = exp2_of(log_p * kLog2E) * (of.pull - of.push * log_p);
    }
    if ((scores.mark[vector / 32 % kMarkWords] >> vector % 32 & 1) != 0) add_scores(a, scores, column, d);
#pragma unroll
    for (int i = 0; i < kVector; ++i) d[i] *= a.at.factor;
    store_vector(to, column, vocabulary, d);
  }
}

template <typename T>
__global__ void __launch_bounds__(kMostThreads, kBlocksOfSm)
    selected_logprob_backward(const __grid_constant__ LogprobBackwardArguments a) {
  __shared__ RowScores scores;
  const int64_t row = a.at.first_row + blockIdx.x;
  float* const logits = a.logits + static_cast<int64_t>(blockIdx.x) * a.at.stride;
  T* const to = reinterpret_cast<T*>(logits);
  const auto vocabulary = static_cast<uint32_t>(a.at.vocabulary), step = blockDim.x * kVector * kAccessesOfLane;
  for (uint32_t word = threadIdx.x; word < min(kMarkWords, (vocabulary + 127) / 128); word += blockDim.x)
    scores.mark[word] = 0;
  if (a.grad_logp != nullptr)
    find_scores(a.at, row, scores.range);
  else if (threadIdx.x < 2)
    scores.range[threadIdx.x] = 0;
  __syncthreads();
  if (threadIdx.x < 32) mark_scores(a, scores);
  __syncthreads();
  const float push = a.grad_entropy == nullptr ? 0.0f : __ldg(a.grad_entropy + row);
  const RowGradient of{.lse = __ldg(a.lse + row), .pull = -scores.grad - push * __ldg(a.entropy + row), .push = push};
  const bool is_read = scores.reached != 0 || push != 0.0f;
#pragma unroll 1
  for (uint32_t begin = 0; begin < vocabulary; begin += step) {
    Tile z;
    if (is_read) load_tile<true>(logits, begin, vocabulary, z);
    if (sizeof(T) < sizeof(float)) __syncthreads();
    if (is_read) {
      backward_tile(a, scores, of, z, begin, to);
    } else {
      const float zeros[kVector] = {};
#pragma unroll
      for (int k = 0; k < kAccessesOfLane; ++k) store_vector(to, column_of(begin, k), vocabulary, zeros);
    }
  }
}

/// A short row would leave most of a large block without a vector; of blocks that wait for their first vectors and at
/// their end, many small ones hide more (seen on an H200: 50,257 columns forward, 152,064 the other way round).
unsigned threads_for(int64_t vocabulary) { return vocabulary < 4096 ? 128 : vocabulary < 65536 ? 256 : kMostThreads; }

}  // namespace

cudaError_t launch_selected_logprob(const LogprobArguments& arguments, cudaStream_t stream) {
  if (arguments.at.rows == 0) return cudaSuccess;
  selected_logprob_forward<<<static_cast<unsigned>(arguments.at.rows), threads_for(arguments.at.vocabulary), 0,
                             stream>>>(arguments);
  return cudaGetLastError();
}

cudaError_t launch_selected_logprob_backward(const LogprobBackwardArguments& arguments, Element element,
                                             cudaStream_t stream) {
  if (arguments.at.rows == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(arguments.at.rows);
  const unsigned threads = threads_for(arguments.at.vocabulary);
  if (element == Element::kFloat32)
    selected_logprob_backward<float><<<rows, threads, 0, stream>>>(arguments);
  else
    selected_logprob_backward<BFloat16><<<rows, threads, 0, stream>>>(arguments);
  return cudaGetLastError();
}

}  // namespace fpdist::kernels
