#pragma once
// tree_attention: the operators' schemas know tensors and numbers only. Here, and nowhere else, their flat arguments
// stand beside the structs that everybody speaks.

#include <tuple>

#include "fpdist/kernels/attention.hpp"

namespace fpdist::kernels {

using FlatForward = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                       const at::Tensor& q_row, const at::Tensor& k_row,
                                                       const at::Tensor& k_end, double scale, bool rounded);
using FlatBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor& grad_out, const at::Tensor& q,
                                                                    const at::Tensor& k, const at::Tensor& v,
                                                                    const at::Tensor& out, const at::Tensor& lse,
                                                                    const at::Tensor& q_row, const at::Tensor& k_row,
                                                                    const at::Tensor& k_end, double scale,
                                                                    bool rounded);

/// What registers `forward`, which has kernels::tree_attention's signature.
template <auto forward>
std::tuple<at::Tensor, at::Tensor> flat_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                const at::Tensor& q_row, const at::Tensor& k_row,
                                                const at::Tensor& k_end, double scale, bool rounded) {
  auto [out, lse] = forward({q, k, v}, {q_row, k_row, k_end}, {.scale = scale, .rounded = rounded});
  return {out, lse};
}

/// What registers `backward`, which has kernels::tree_attention_backward's signature.
template <auto backward>
std::tuple<at::Tensor, at::Tensor, at::Tensor> flat_backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                             const at::Tensor& k, const at::Tensor& v,
                                                             const at::Tensor& out, const at::Tensor& lse,
                                                             const at::Tensor& q_row, const at::Tensor& k_row,
                                                             const at::Tensor& k_end, double scale, bool rounded) {
  auto [dq, dk, dv] =
      backward(grad_out, {q, k, v}, {out, lse}, {q_row, k_row, k_end}, {.scale = scale, .rounded = rounded});
  return {dq, dk, dv};
}

}  // namespace fpdist::kernels
