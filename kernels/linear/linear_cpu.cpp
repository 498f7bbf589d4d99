// CPU twin of linear.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "kernels/checks.hpp"
#include "kernels/linear/linear.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       const std::optional<at::Tensor>&, const std::optional<at::Tensor>&) {
  check_model_tensor("linear", "x", x, 2);
  check_model_tensor("linear", "weight", weight, 2);
  check_dtype("linear", "weight", weight, x.scalar_type());
  check(x.size(1) == weight.size(1), "linear: x has ", x.size(1), " columns, weight ", weight.size(1));
  if (!bias) return at::mm(x, weight.t());
  check_dtype("linear", "bias", *bias, x.scalar_type());
  check_sizes("linear", "bias", *bias, {weight.size(0)});
  return at::addmm(*bias, x, weight.t());
}

at::Tensor backward_input_cpu(const at::Tensor& grad_out, const at::Tensor& weight) {
  check_model_tensor("linear_backward_input", "grad_out", grad_out, 2);
  check_dtype("linear_backward_input", "weight", weight, grad_out.scalar_type());
  return at::mm(grad_out, weight);
}

void backward_weight_cpu(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight) {
  check_model_tensor("linear_backward_weight", "grad_out", grad_out, 2);
  const auto dtype = accumulate_dtype_of(x.scalar_type());
  check_dtype("linear_backward_weight", "grad_weight", grad_weight, dtype);
  check_sizes("linear_backward_weight", "grad_weight", grad_weight, {grad_out.size(1), x.size(1)});
  grad_weight.addmm_(grad_out.to(dtype).t(), x.to(dtype));
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("linear", fpdist::kernels::forward_cpu);
  m.impl("linear_backward_input", fpdist::kernels::backward_input_cpu);
  m.impl("linear_backward_weight", fpdist::kernels::backward_weight_cpu);
}
