#pragma once
// selected_logprob over chunks of rows: each chunk's logits by one product, what is done to them, and in backward two
// products more. Every shape is known without reading a tensor, so the host never waits. Arguments and results as
// kernels::partial_logprob's and selected_logprob_backward's; nothing is checked by value (an unsorted or foreign
// score_row is the caller's fault here).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "kernels/linear/gemm_call.hpp"
#include "kernels/selected_logprob/logit_rows.hpp"

namespace fpdist::kernels {

/// Of a chunk's logits: 2,648 rows of 152,064 columns. Every chunk reads and writes the whole of dW, which takes as
/// long as the product of some 900 rows; there the own kernels hold one such chunk, ATen's operations up to three.
inline constexpr int64_t kDeviceChunkBytes = int64_t{3} << 29;

/// Rows of a chunk, none of more logits than `chunk_bytes`, one row at least: parts of `rows` as even as can be, whole
/// tiles of 128 rows where these fit. A function of the shapes alone, never of free memory, for it fixes the order in
/// which dW adds up.
int64_t rows_of_chunk(int64_t rows, int64_t vocabulary, int64_t element_bytes, int64_t chunk_bytes);

/// Who does the work.
struct ChunkWork {
  Product product;
  LogitStatistics statistics = composed_logit_statistics;
  LogitGradient gradient = composed_logit_gradient;
  int64_t bytes = kDeviceChunkBytes;
};

/// `is_relative`: log-probabilities in place of the logits. `memory`: what all chunks lay in, one after another; the
/// last one's logits are there still where the statistics do not use them up.
struct ChunkedLogprob {
  LogitResults results;
  at::Tensor memory;
};
ChunkedLogprob chunked_logprob(const at::Tensor& hidden, const at::Tensor& weight, const LogitScores& scores,
                               bool is_relative, const ChunkWork& work);

/// The gradient of the logits is rounded to hidden's dtype for its two products, whose sums are of float32. The last
/// chunk comes first; `memory`, if given, is forward's and has its logits.
at::Tensor chunked_logprob_backward(const LogitGradients& of, const at::Tensor& hidden, const at::Tensor& weight,
                                    const LogitScores& scores, const std::optional<at::Tensor>& grad_weight,
                                    bool accumulates, const ChunkWork& work,
                                    const std::optional<at::Tensor>& memory = std::nullopt);

}  // namespace fpdist::kernels
