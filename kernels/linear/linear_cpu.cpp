// CPU twin of linear.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/linear/host_product.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/linear_composed.hpp"
#include "kernels/linear/mixed_sums.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                       const std::optional<at::Tensor>& residual) {
  check_linear(x, weight, bias, residual);
  // ATen's bfloat16 product adds its matrix in float32, before the one rounding.
  if (residual) return bias ? composed_linear(x, weight, bias, *residual) : at::addmm(*residual, x, weight.t());
  return bias ? at::addmm(*bias, x, weight.t()) : at::mm(x, weight.t());
}

at::Tensor wide_cpu(const at::Tensor& x, const at::Tensor& weight) {
  check_linear(x, weight, std::nullopt);
  at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options().dtype(accumulate_dtype_of(x.scalar_type())));
  host_product(x, false, weight, true, y, /*accumulates=*/false);
  return y;
}

at::Tensor backward_input_cpu(const at::Tensor& grad_out, const at::Tensor& weight) {
  check_linear_backward_input(grad_out, weight);
  return at::mm(grad_out, weight);
}

void backward_weight_cpu(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight, bool accumulates) {
  check_linear_backward_weight(grad_out, x, grad_weight);
  if (!accumulates) grad_weight.zero_();  // not beta = 0, for which BLAS may take another way to other bits
  host_product(grad_out, true, x, false, grad_weight, /*accumulates=*/true);
}

void backward_weight_bias_cpu(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight,
                              at::Tensor& grad_bias, bool accumulates, bool accumulates_bias) {
  check_linear_backward_bias(grad_out, grad_bias);
  backward_weight_cpu(grad_out, x, grad_weight, accumulates);
  const at::Tensor row_sum = column_sum(grad_out);
  accumulates_bias ? grad_bias.add_(row_sum) : grad_bias.copy_(row_sum);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("linear", fpdist::kernels::forward_cpu);
  m.impl("wide_linear", fpdist::kernels::wide_cpu);
  m.impl("linear_backward_input", fpdist::kernels::backward_input_cpu);
  m.impl("linear_backward_weight", fpdist::kernels::backward_weight_cpu);
  m.impl("linear_backward_weight_bias", fpdist::kernels::backward_weight_bias_cpu);
}
