// linear on the GPU: three products in cuBLASLt; the residual, dW and db are added in float32 by the product itself.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/linear/cublaslt.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/linear_composed.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor forward_cuda(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                        const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                        const std::optional<at::Tensor>& residual) {
  check_linear(x, weight, bias, residual);
  at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  if (residual) {
    // A bias beside C is added by a pass of its own over D in bfloat16 where k is split or operands are not aligned
    // (seen on an H100): two roundings. Only few models have one here; their sum is made in float32.
    if (bias || !cublaslt_sum(*residual, x, false, weight, true, y)) return composed_linear(x, weight, bias, *residual);
  } else if (!bias) {
    cublaslt_product(x, false, weight, true, y, /*accumulates=*/false);
  } else if (!cublaslt_product_with(Epilogue::kBias, bias->contiguous(), x, false, weight, true, y, false)) {
    return at::addmm(*bias, x, weight.t());
  }
  return y;
}

at::Tensor wide_cuda(const at::Tensor& x, const at::Tensor& weight) {
  check_linear(x, weight, std::nullopt);
  at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options().dtype(accumulate_dtype_of(x.scalar_type())));
  cublaslt_product(x, false, weight, true, y, /*accumulates=*/false);
  return y;
}

at::Tensor backward_input_cuda(const at::Tensor& grad_out, const at::Tensor& weight) {
  check_linear_backward_input(grad_out, weight);
  at::Tensor dx = at::empty({grad_out.size(0), weight.size(1)}, grad_out.options());
  cublaslt_product(grad_out, false, weight, false, dx, /*accumulates=*/false);
  return dx;
}

void backward_weight_cuda(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight, bool accumulates) {
  check_linear_backward_weight(grad_out, x, grad_weight);
  cublaslt_product(grad_out, true, x, false, grad_weight, accumulates);
}

void backward_weight_bias_cuda(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight,
                               at::Tensor& grad_bias, bool accumulates, bool accumulates_bias) {
  check_linear_backward_weight(grad_out, x, grad_weight);
  check_linear_backward_bias(grad_out, grad_bias);
  // The epilogue writes where the main grad must grow, and main grads lie at any address: through a vector of its own.
  at::Tensor row_sum = at::empty(grad_bias.sizes(), grad_bias.options());
  if (!cublaslt_product_with(Epilogue::kBiasGradient, row_sum, grad_out, true, x, false, grad_weight, accumulates)) {
    cublaslt_product(grad_out, true, x, false, grad_weight, accumulates);
    row_sum = grad_out.sum(0, false, grad_bias.scalar_type());
  }
  accumulates_bias ? grad_bias.add_(row_sum) : grad_bias.copy_(row_sum);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("linear", fpdist::kernels::forward_cuda);
  m.impl("wide_linear", fpdist::kernels::wide_cuda);
  m.impl("linear_backward_input", fpdist::kernels::backward_input_cuda);
  m.impl("linear_backward_weight", fpdist::kernels::backward_weight_cuda);
  m.impl("linear_backward_weight_bias", fpdist::kernels::backward_weight_bias_cuda);
}
