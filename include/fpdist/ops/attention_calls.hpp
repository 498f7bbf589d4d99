#pragma once
// ops: what attention over one set of rows needs on a GPU, made once per pack (or ring round, or resident slice) and
// handed to all layers, forward and backward. Without it every call on a GPU lays its calls out anew: right, but work
// per layer.

#include <memory>

#include "fpdist/kernels/attention.hpp"

namespace fpdist::kernels {
class AttentionCalls;
}

namespace fpdist::ops {

using kernels::AttentionGradients, kernels::AttentionInputs, kernels::AttentionMask, kernels::AttentionOptions,
    kernels::AttentionOutput;

/// Immutable; may be shared by any number of calls in flight. Null on the CPU and on the Meta device, which need none.
using AttentionCallsPtr = std::shared_ptr<const kernels::AttentionCalls>;

/// The calls of attention under `mask` on `device` (of the q that will come). Throws ShapeError for rows that do not
/// ascend or lie on a device.
AttentionCallsPtr prepare_attention(const AttentionMask& mask, at::Device device);

}  // namespace fpdist::ops
