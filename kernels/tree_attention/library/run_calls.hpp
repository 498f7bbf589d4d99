#pragma once
// tree_attention by its calls: what the CUDA operator runs. Our own kernels where they are the faster ones
// (tiled/tiled_attention.hpp), else the levels' calls, written against any device, so that the CPU tests them. They run
// in their order, their outputs are merged by lse in the accumulation dtype, and backward gives every call the merged
// output and adds up in the accumulation dtype: the same bits for the same calls (unless the options allow otherwise).
// Arguments and results as kernels::tree_attention's; the calls say which rows they are. Throws ShapeError.

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/mask/attention_calls.hpp"

namespace fpdist::kernels {

AttentionOutput run_calls(const AttentionInputs& in, const AttentionCalls& calls, const AttentionOptions& options);

AttentionGradients run_calls_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                      const AttentionOutput& merged, const AttentionCalls& calls,
                                      const AttentionOptions& options);

/// By the levels' calls, whatever is faster.
AttentionOutput run_levels(const AttentionInputs& in, const AttentionCalls& calls, const AttentionOptions& options);
AttentionGradients run_levels_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                       const AttentionOutput& merged, const AttentionCalls& calls,
                                       const AttentionOptions& options);

}  // namespace fpdist::kernels
