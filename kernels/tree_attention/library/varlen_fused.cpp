// One call in torch's fused attentions: FlashAttention 2 over segments, cuDNN for a call of one segment. Both
// take what was merged over all calls, out and lse, into their backward (kernels.md's sources: ring-flash-attention and
// TransformerEngine do the same). They are private operators of torch: pinned to 2.11.
#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/library/varlen.hpp"

namespace fpdist::kernels {
namespace {

/// FlashAttention's operator reads torch's global switch and nothing else. It is left as it was found; unwritten memory
/// stays unwritten, or every workspace would be filled first.
class DeterministicScope {
 public:
  explicit DeterministicScope(bool deterministic)
      : was_on_(at::globalContext().deterministicAlgorithms()),
        warned_(at::globalContext().deterministicAlgorithmsWarnOnly()),
        filled_(at::globalContext().deterministicFillUninitializedMemory()) {
    at::globalContext().setDeterministicAlgorithms(deterministic || was_on_, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
  ~DeterministicScope() {
    at::globalContext().setDeterministicAlgorithms(was_on_, warned_);
    at::globalContext().setDeterministicFillUninitializedMemory(filled_);
  }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  bool was_on_, warned_, filled_;
};

/// [T,H,D] -> [1,H,T,D] view.
at::Tensor as_batch(const at::Tensor& x) { return x.transpose(0, 1).unsqueeze(0); }
at::Tensor as_rows(const at::Tensor& x) { return x.squeeze(0).transpose(0, 1); }

/// [Hq,T] from either operator, whatever trailing or leading dims of one it has.
at::Tensor lse_by_row(const at::Tensor& lse, const at::Tensor& q) {
  check(lse.numel() == q.size(0) * q.size(1), "tree_attention: torch's attention returned an lse of shape ",
        lse.sizes(), " for ", q.size(0), " rows and ", q.size(1), " heads: this torch is not 2.11");
  return lse.reshape({q.size(1), q.size(0)}).t();
}

/// No dropout: its random state is never read, but the operators want tensors.
at::Tensor no_random_state(const at::Tensor& like, at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::zeros(sizes, like.options().dtype(dtype));
}

}  // namespace

AttentionOutput flash_forward(const AttentionInputs& in, const VarlenCall& call, const AttentionOptions& options) {
  const auto& [q, k, v] = in;
  const auto result = at::_flash_attention_forward(q, k, v, call.q.offset, call.k.offset, call.q.longest,
                                                   call.k.longest, /*dropout_p=*/0.0, call.level.is_causal,
                                                   /*return_debug_mask=*/false, options.scale);
  return {std::get<0>(result), lse_by_row(std::get<1>(result), q)};
}

AttentionGradients flash_backward(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                  const VarlenCall& call, const AttentionOptions& options) {
  const auto& [q, k, v] = in;
  const DeterministicScope scope(options.deterministic);
  const auto [dq, dk, dv] = at::_flash_attention_backward(
      grad_out.to(q.scalar_type()), q, k, v, merged.out.to(q.scalar_type()), merged.lse.to(at::kFloat).t().contiguous(),
      call.q.offset, call.k.offset, call.q.longest, call.k.longest,
      /*dropout_p=*/0.0, call.level.is_causal, no_random_state(q, {2}, at::kUInt64),
      no_random_state(q, {}, at::kUInt64), options.scale);
  return {dq, dk, dv};
}

AttentionOutput cudnn_forward(const AttentionInputs& in, const VarlenCall& call, const AttentionOptions& options) {
  const auto& [q, k, v] = in;
  const auto result = at::_cudnn_attention_forward(as_batch(q), as_batch(k), as_batch(v), /*attn_bias=*/{},
                                                   /*cum_seq_q=*/{}, /*cum_seq_k=*/{}, call.q.longest, call.k.longest,
                                                   /*compute_log_sumexp=*/true, /*dropout_p=*/0.0, call.level.is_causal,
                                                   /*return_debug_mask=*/false, options.scale);
  return {as_rows(std::get<0>(result)), lse_by_row(std::get<1>(result), q)};
}

AttentionGradients cudnn_backward(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                  const VarlenCall& call, const AttentionOptions& options) {
  const auto& [q, k, v] = in;
  const at::Tensor stats = merged.lse.to(at::kFloat).t().contiguous().view({1, q.size(1), q.size(0), 1});
  const auto [dq, dk, dv] =
      at::_cudnn_attention_backward(as_batch(grad_out.to(q.scalar_type())), as_batch(q), as_batch(k), as_batch(v),
                                    as_batch(merged.out.to(q.scalar_type())), stats, no_random_state(q, {}, at::kLong),
                                    no_random_state(q, {}, at::kLong), /*attn_bias=*/at::Tensor(),
                                    /*cum_seq_q=*/at::Tensor(), /*cum_seq_k=*/at::Tensor(), call.q.longest,
                                    call.k.longest, /*dropout_p=*/0.0, call.level.is_causal, options.scale);
  return {as_rows(dq), as_rows(dk), as_rows(dv)};
}

}  // namespace fpdist::kernels
