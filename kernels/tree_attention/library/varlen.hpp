#pragma once
// tree_attention on a GPU: who runs one of its calls, and the three that can. All take gathered rows, q
// [queries,Hq,D], k and v [keys,Hkv,D], and return out and lse, or the gradients, each in a dtype of its own choice.
// Backward takes out and lse as merged over all calls: lse in the accumulation dtype, out in that or in q's.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/mask/attention_calls.hpp"

namespace fpdist::kernels {

enum class Backend {
  kCudnn,  ///< at::_cudnn_attention_*, dense: one segment
  kFlash,  ///< at::_flash_attention_*, FlashAttention 2 over segments
  kMath,   ///< batched matrix products in the accumulation dtype, segment by segment, on any device
};

/// What the choice depends on.
struct BackendQuestion {
  at::ScalarType dtype = at::kFloat;
  int64_t head_size = 0;
  int64_t capability = 0;  ///< 10 * major + minor
  bool deterministic = true;
  int64_t segments = 1;
  int64_t shortest_q = 1, longest_q = 1, longest_k = 1;
};
Backend choose_backend(const BackendQuestion& question);
BackendQuestion question_of(const at::Tensor& q, const VarlenCall& call, int64_t capability, bool deterministic);

/// Of scores alive at a time in plain products: queries go in blocks.
inline constexpr int64_t kScoreBytes = int64_t{256} << 20;

AttentionOutput math_forward(const AttentionInputs& in, const VarlenCall& call, const AttentionOptions& options,
                             int64_t score_bytes = kScoreBytes);
AttentionGradients math_backward(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                 const VarlenCall& call, const AttentionOptions& options,
                                 int64_t score_bytes = kScoreBytes);

AttentionOutput flash_forward(const AttentionInputs& in, const VarlenCall& call, const AttentionOptions& options);
AttentionGradients flash_backward(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                  const VarlenCall& call, const AttentionOptions& options);

AttentionOutput cudnn_forward(const AttentionInputs& in, const VarlenCall& call, const AttentionOptions& options);
AttentionGradients cudnn_backward(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                  const VarlenCall& call, const AttentionOptions& options);

}  // namespace fpdist::kernels
