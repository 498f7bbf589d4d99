#pragma once
// tree_attention, blocked: the whole problem from tensors, on the instruction set of the machine.

#include <cstdint>

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/blocked/blocked_kernel.hpp"
#include "kernels/tree_attention/blocked/blocked_plan.hpp"

namespace fpdist::kernels {

/// The widest that this processor has and that multiplies what `dtype` holds: bfloat16 in pairs where it can, else
/// widened to float as it is packed. Null for other dtypes and head sizes, where there is none.
const BlockedKernel* best_blocked_kernel(at::ScalarType dtype, int64_t head_size);
/// Whether this processor can run it.
bool can_run(const BlockedKernel* kernel);

/// tree_attention and its backward by `kernel`, the arguments checked: the same bits for any number of threads.
AttentionOutput blocked_attention(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                                  const BlockedKernel& kernel, BlockedCut cut = BlockedCut::kByShape);
AttentionGradients blocked_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                              const AttentionOutput& merged, const AttentionMask& mask,
                                              const AttentionOptions& options, const BlockedKernel& kernel);

}  // namespace fpdist::kernels
