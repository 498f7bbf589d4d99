#pragma once
// ops (private): a weight that gets no gradient, as it lies or in 4 bits, and how a node of the graph keeps it.

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

#include "fpdist/ops/parameter.hpp"
#include "fpdist/ops/quantized_weight.hpp"

namespace fpdist::ops {

class FrozenWeight {
 public:
  /// Throws ShapeError for a parameter without values.
  explicit FrozenWeight(const Parameter& parameter);
  /// Made anew where it is quantized: the same bits every time.
  at::Tensor value() const { return quantized_ ? quantized_->value() : dense_; }
  /// What a node saves among its tensors; undefined where it is quantized. The rest goes into `context`.
  at::Tensor save(torch::autograd::AutogradContext& context) const;
  static FrozenWeight saved(const torch::autograd::AutogradContext& context, const at::Tensor& dense);

 private:
  FrozenWeight() = default;
  at::Tensor dense_;
  std::shared_ptr<const QuantizedWeight> quantized_;
};

/// y = x W^T (+ b) (+ residual) of a quantized weight.
at::Tensor quantized_linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias,
                            const at::Tensor& residual);

}  // namespace fpdist::ops
