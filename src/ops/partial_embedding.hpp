#pragma once
// ops: rows of a slice of the vocabulary, for whoever splits it (tensor parallelism): the slices' results add up to the
// embedding of the whole. Shapes are those of the tokens, so nothing waits for a device.

#include <ATen/core/Tensor.h>

#include "fpdist/ops/parameter.hpp"

namespace fpdist::ops {

/// rows [T,H] of `weight` [V_r,H] for token [T] int64 in ids of the slice; -1, in another slice: a row of zeros without
/// a gradient. The others' gradients are added into the main grad in row order. Throws ShapeError.
at::Tensor partial_embedding(const at::Tensor& token, const Parameter& weight);

}  // namespace fpdist::ops
