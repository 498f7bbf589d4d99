#pragma once
// ops (private): a RowDropout as a node of the graph keeps it until its backward.

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fpdist/ops/functional.hpp"

namespace fpdist::ops {

/// The call itself, on x and on gradients alike: without p the tensor that it was given.
at::Tensor drop(const at::Tensor& x, const RowDropout& dropout);

/// All but the key, which the node saves as it saves tensors.
void save_dropout(torch::autograd::AutogradContext& context, const RowDropout& dropout);
RowDropout saved_dropout(const torch::autograd::AutogradContext& context, const at::Tensor& key);

}  // namespace fpdist::ops
