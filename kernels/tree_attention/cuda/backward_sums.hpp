#pragma once
// tree_attention on the GPU, backward: sums that its kernels need before and after, whatever the tensor cores.

#include "kernels/tree_attention/cuda/tree_attention_kernel.hpp"

namespace fpdist::kernels {

/// Queries of one head, with the padding.
inline int64_t padded_queries(const TreeAttentionBackwardArguments& a) {
  return (a.q.rows + kPaddedRows - 1) / kPaddedRows * kPaddedRows;
}

/// row_sums: of every query log2 of the sum of its weights, +inf where it has none (so that all of them are 0), and the
/// sum of its outputs' gradients times its outputs, which the softmax takes off every score's gradient.
cudaError_t launch_row_sums(const TreeAttentionBackwardArguments& a, cudaStream_t stream);
/// dk and dv of the blocks that are cut, out of `partial`; nothing where none is.
cudaError_t launch_part_sums(const TreeAttentionBackwardArguments& a, cudaStream_t stream);
/// dq likewise, out of `dq_parts`.
cudaError_t launch_query_part_sums(const TreeAttentionBackwardArguments& a, cudaStream_t stream);

}  // namespace fpdist::kernels
