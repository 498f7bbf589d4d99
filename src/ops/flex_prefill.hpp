#pragma once
// ops: FlexPrefill (Lai et al., "FlexPrefill: A Context-Aware Sparse Attention Mechanism for Efficient Long-Sequence
// Inference", ICLR 2025): attention of a long prompt's rows over a part of their keys, chosen head by head. On the CPU,
// not differentiable.
//
// A window of n queries ends a path of N keys: its rows are the path's last n, and the first of them is at a depth that
// block divides. n = N is the paper's case. Of each query head, with b = block, B = ceil(N/b), in the accumulation
// dtype:
//   A    = softmax(scale Q[n-b:] K^T), causal: the attention of the last b queries
//   vert = mean over queries of A by key; slash = sum over queries / b by distance; both [N], and summed by blocks [B]
//   P    = softmax(scale mean(Q[n-b:]) . mean of each block's keys)
// The head is query-aware where sqrt(JS(P, vert by blocks)) < tau, JS in nats. Else the largest entries of vert, as
// many as stay within gamma and one more, divided by b and rounded down, and one more, say how many blocks of keys are
// kept for all queries; slash likewise how many diagonals of blocks; both from min_budget to max_budget (in blocks,
// rounded up; max_budget 0: any number). A query-aware head keeps min_budget of each and, of
// softmax(scale (mean of each block's queries) . (mean of each block's keys)), causal, all blocks in descending order
// that stay within gamma times the number of query blocks. The first block of keys and the diagonal are always kept.
// Where the paper's code leaves it open: 0 log 0 is 0; counts divide by b, whatever it is; the mean of a last block
// that is not full is over its rows; of equal entries the earlier is larger. gamma 1 keeps all; so does a window of 2 b
// rows or fewer, and a path of max(2 b, min_budget rounded up) keys or fewer.

#include <cstdint>
#include <vector>

#include "fpdist/kernels/attention.hpp"

namespace fpdist::ops {

struct FlexSearch {
  double gamma = 0.9;
  double tau = 0.1;
  int64_t min_budget = 1024, max_budget = 0;  ///< keys
  int64_t block = 128;
};

/// Of one head.
struct KeyBlocks {
  std::vector<std::vector<int32_t>> seen;  ///< [query blocks] blocks of the path's keys, ascending
  bool is_query_aware = false;
};

/// Pairs of blocks, one of queries and one of keys that they might see, over all heads.
struct FlexArea {
  int64_t kept = 0, all = 0;
  double search_seconds = 0;  ///< of choosing them
  FlexArea& operator+=(const FlexArea& other) {
    kept += other.kept, all += other.all, search_seconds += other.search_seconds;
    return *this;
  }
};

/// q [n,D], k [N,D]. Throws ShapeError unless block divides N - n.
KeyBlocks find_key_blocks(const at::Tensor& q, const at::Tensor& k, double scale, const FlexSearch& search);

/// [n,Hq,D] in q's dtype: attention over the kept blocks, a query seeing itself and what is above it. in: q [n,Hq,D], k
/// and v [N,Hkv,D] of the whole path. Adds to `area`. In float32 and bfloat16, where the CPU has blocked kernels and
/// block is a multiple of 64, they skip the other keys; elsewhere the kept ones are gathered. Throws ShapeError as
/// find_key_blocks, and off the CPU.
at::Tensor flex_prefill(const kernels::AttentionInputs& in, double scale, const FlexSearch& search, FlexArea& area);

}  // namespace fpdist::ops
