#include "src/ops/partial_attention.hpp"

#include <ATen/core/grad_mode.h>

#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::ops {

AttentionOutput partial_attention(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                                  const AttentionCallsPtr& calls) {
  const at::NoGradGuard no_grad;
  return calls ? kernels::run_calls(in, *calls, options) : kernels::tree_attention(in, mask, options);
}

AttentionGradients partial_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                              const AttentionOutput& merged, const AttentionMask& mask,
                                              const AttentionOptions& options, const AttentionCallsPtr& calls) {
  const at::NoGradGuard no_grad;
  return calls ? kernels::run_calls_backward(grad_out, in, merged, *calls, options)
               : kernels::tree_attention_backward(grad_out, in, merged, mask, options);
}

}  // namespace fpdist::ops
