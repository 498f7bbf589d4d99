#pragma once
// tree_attention, blocked: the whole problem from tensors, on the instruction set of the machine.

#include <cstdint>
#include <vector>

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
/// What blocks of queries see of the keys, head by head.
struct KeptPanels {
  int64_t block = 0;                        ///< queries
  std::vector<std::vector<int32_t>> panel;  ///< [heads * blocks] panels of kPanelKeys keys, ascending
};

/// out of tree_attention where a query sees, of what the mask shows it, the keys of its block's panels alone: in q's
/// dtype, 0 where that is none. Keys are packed once for all of them and none is copied. A row has the bits that it has
/// among these keys alone, cut by place.
at::Tensor blocked_attention_of_panels(const AttentionInputs& in, const AttentionMask& mask, const KeptPanels& kept,
                                       double scale, const BlockedKernel& kernel);
AttentionGradients blocked_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                              const AttentionOutput& merged, const AttentionMask& mask,
                                              const AttentionOptions& options, const BlockedKernel& kernel);

}  // namespace fpdist::kernels
