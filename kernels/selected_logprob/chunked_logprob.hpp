#pragma once
// selected_logprob on a GPU: ATen over chunks of rows, written against any device, so that the CPU tests it. Every
// shape is known without reading a tensor, so the host never waits: a chunk looks at all scores and masks those of
// other chunks. Arguments and results as kernels::partial_logprob's and selected_logprob_backward's; nothing is checked
// by value (an unsorted or foreign score_row is the caller's fault here).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

#include "kernels/linear/gemm_call.hpp"

namespace fpdist::kernels {

/// Of logits alive at a time. Backward holds up to three such chunks.
inline constexpr int64_t kDeviceChunkBytes = int64_t{512} << 20;

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> chunked_logprob(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, Product product, int64_t chunk_bytes = kDeviceChunkBytes);

/// The gradient of the logits is rounded to hidden's dtype for its two products, whose sums are of float32.
at::Tensor chunked_logprob_backward(const std::optional<at::Tensor>& grad_logp,
                                    const std::optional<at::Tensor>& grad_entropy, const at::Tensor& hidden,
                                    const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
                                    const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                                    const std::optional<at::Tensor>& grad_weight, Product product,
                                    int64_t chunk_bytes = kDeviceChunkBytes);

}  // namespace fpdist::kernels
