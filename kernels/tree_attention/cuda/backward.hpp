#pragma once
// tree_attention on the GPU, backward: its three kernels. They run in this order on one stream.

#include <tuple>

#include "kernels/tree_attention/cuda/tree_attention_kernel.hpp"

namespace fpdist::kernels {

/// Queries of one head, with the padding.
inline int64_t padded_queries(const TreeAttentionBackwardArguments& a) {
  return (a.q.rows + kPaddedRows - 1) / kPaddedRows * kPaddedRows;
}

struct BackwardMaps {
  CUtensorMap q, k, v, grad_out;
};
/// Boxes of so many rows of q and grad_out, and of k and v.
inline cudaError_t make_maps(const TreeAttentionBackwardArguments& a, int query_rows, int key_rows,
                             BackwardMaps& maps) {
  for (const auto& [tensor, rows, map] : {std::tuple{&a.q, query_rows, &maps.q},
                                          {&a.grad_out, query_rows, &maps.grad_out},
                                          {&a.k, key_rows, &maps.k},
                                          {&a.v, key_rows, &maps.v}})
    if (const cudaError_t error = make_tensor_map(*tensor, rows, *map); error != cudaSuccess) return error;
  return cudaSuccess;
}

/// row_sums: of every query log2 of the sum of its weights, +inf where it has none (so that all of them are 0), and the
/// sum of its outputs' gradients times its outputs, which the softmax takes off every score's gradient.
cudaError_t launch_row_sums(const TreeAttentionBackwardArguments& a, cudaStream_t stream);
cudaError_t launch_key_gradients(const TreeAttentionBackwardArguments& a, cudaStream_t stream);    ///< dk, dv
cudaError_t launch_query_gradients(const TreeAttentionBackwardArguments& a, cudaStream_t stream);  ///< dq

}  // namespace fpdist::kernels
