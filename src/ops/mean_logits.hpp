#pragma once
// ops: the mean of logits over a vocabulary, without the logits. Not differentiable.

#include <ATen/core/Tensor.h>

#include "fpdist/ops/parameter.hpp"

namespace fpdist::ops {

/// weight [V,H] -> [H] in the accumulation dtype: its rows added up and divided by `vocabulary`, of which `weight` may
/// be a slice.
at::Tensor mean_row(const at::Tensor& weight, double vocabulary);

/// hidden [R,H], mean_row [H] -> [R] in the accumulation dtype.
at::Tensor mean_logits(const at::Tensor& hidden, const at::Tensor& mean_row);

/// [n,V] in the accumulation dtype: all logits of hidden rows [n,H] under the head's weight [V,H]. Of a weight that is
/// not packed, on the CPU the same bits for any number of threads. Not differentiable.
at::Tensor logits(const at::Tensor& hidden, const Parameter& head);
/// [V,n]: their transpose.
at::Tensor transposed_logits(const at::Tensor& hidden, const Parameter& head);

}  // namespace fpdist::ops
