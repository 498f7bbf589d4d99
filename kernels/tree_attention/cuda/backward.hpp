#pragma once
// tree_attention on a Hopper GPU, backward: its two kernels, after the row sums.

#include <tuple>

#include "kernels/tree_attention/cuda/backward_sums.hpp"

namespace fpdist::kernels {

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

cudaError_t launch_key_gradients(const TreeAttentionBackwardArguments& a, cudaStream_t stream);    ///< dk, dv
cudaError_t launch_query_gradients(const TreeAttentionBackwardArguments& a, cudaStream_t stream);  ///< dq

}  // namespace fpdist::kernels
