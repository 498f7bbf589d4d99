#pragma once
// ops: the mean of logits over a vocabulary, without the logits.

#include <ATen/core/Tensor.h>

namespace fpdist::ops {

/// hidden [R,H], weight [V,H] -> [R] in the accumulation dtype: each row's logits added up and divided by `vocabulary`,
/// of which `weight` may be a slice. Not differentiable.
at::Tensor mean_logits(const at::Tensor& hidden, const at::Tensor& weight, double vocabulary);

/// [n,V] in the accumulation dtype: all logits of hidden rows [n,H] under weight [V,H]; its transpose where the two
/// change places. Not differentiable.
at::Tensor logits(const at::Tensor& hidden, const at::Tensor& weight);

}  // namespace fpdist::ops
