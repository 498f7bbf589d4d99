#pragma once
// tree_attention on a GPU: who runs one call of a plan, and the three that can. All take gathered rows, q
// [queries,Hq,D], k and v [keys,Hkv,D], and return out [queries,Hq,D] and lse [queries,Hq] (natural log), or dq, dk and
// dv, each in a dtype of its own choice. Backward takes out and lse as merged over all calls, in the accumulation
// dtype.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <tuple>

#include "kernels/tree_attention/mask/attention_plan.hpp"

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
BackendQuestion question_of(const at::Tensor& q, const VarlenCall& call, const AttentionPlan& plan);

/// Of scores alive at a time in plain products: queries go in blocks.
inline constexpr int64_t kScoreBytes = int64_t{256} << 20;

std::tuple<at::Tensor, at::Tensor> math_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                const VarlenCall& call, double scale,
                                                int64_t score_bytes = kScoreBytes);
std::tuple<at::Tensor, at::Tensor, at::Tensor> math_backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                             const at::Tensor& k, const at::Tensor& v,
                                                             const at::Tensor& out, const at::Tensor& lse,
                                                             const VarlenCall& call, double scale,
                                                             int64_t score_bytes = kScoreBytes);

std::tuple<at::Tensor, at::Tensor> flash_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                 const VarlenCall& call, double scale);
std::tuple<at::Tensor, at::Tensor, at::Tensor> flash_backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                              const at::Tensor& k, const at::Tensor& v,
                                                              const at::Tensor& out, const at::Tensor& lse,
                                                              const VarlenCall& call, double scale, bool deterministic);

std::tuple<at::Tensor, at::Tensor> cudnn_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                 const VarlenCall& call, double scale);
std::tuple<at::Tensor, at::Tensor, at::Tensor> cudnn_backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                              const at::Tensor& k, const at::Tensor& v,
                                                              const at::Tensor& out, const at::Tensor& lse,
                                                              const VarlenCall& call, double scale);

}  // namespace fpdist::kernels
