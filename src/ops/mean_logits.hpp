#pragma once
// ops: the mean of logits over a vocabulary, without the logits.

#include <ATen/core/Tensor.h>

namespace fpdist::ops {

/// hidden [R,H], weight [V,H] -> [R] in the accumulation dtype: each row's logits added up and divided by `vocabulary`,
/// of which `weight` may be a slice. Not differentiable.
at::Tensor mean_logits(const at::Tensor& hidden, const at::Tensor& weight, double vocabulary);

}  // namespace fpdist::ops
