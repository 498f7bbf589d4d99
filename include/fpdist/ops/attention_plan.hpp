#pragma once
// ops: what attention over one set of rows needs on a GPU, made once per pack (or ring stage, or resident slice) and
// handed to all layers, forward and backward. Row numbers (q_row, k_row, k_end) are int32 tensors on the CPU whatever
// the device: the host plans the calls from them and nothing waits for the device. Without a plan every call on a GPU
// makes one: right, but work per layer.

#include <ATen/core/Tensor.h>

#include <memory>

namespace fpdist::kernels {
class AttentionPlan;
}

namespace fpdist::ops {

/// Immutable; may be shared by any number of calls in flight. Null on the CPU and on the Meta device, which need none.
using AttentionPlanPtr = std::shared_ptr<const kernels::AttentionPlan>;

/// A plan for attention of these queries over these keys on `device` (of the q that will come). `deterministic`: only
/// kernels that give the same bits twice; without it cuDNN may be chosen on sm_90 and later. Throws ShapeError for rows
/// that do not ascend or lie on a device.
AttentionPlanPtr prepare_attention(const at::Tensor& q_row, const at::Tensor& k_row, const at::Tensor& k_end,
                                   at::Device device, bool deterministic = true);

}  // namespace fpdist::ops
