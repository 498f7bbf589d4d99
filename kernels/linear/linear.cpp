#include "kernels/linear/linear.hpp"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"

namespace fpdist::kernels {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                  const std::optional<at::Tensor>& weight_main_grad, const std::optional<at::Tensor>& bias_main_grad,
                  const std::optional<at::Tensor>& residual) {
  static const auto op = find_operator<decltype(linear)>("fpdist::linear");
  return op.call(x, weight, bias, weight_main_grad, bias_main_grad, residual);
}

at::Tensor wide_linear(const at::Tensor& x, const at::Tensor& weight) {
  static const auto op = find_operator<decltype(wide_linear)>("fpdist::wide_linear");
  return op.call(x, weight);
}

at::Tensor linear_backward_input(const at::Tensor& grad_out, const at::Tensor& weight) {
  static const auto op = find_operator<decltype(linear_backward_input)>("fpdist::linear_backward_input");
  return op.call(grad_out, weight);
}

void linear_backward_weight(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight,
                            bool accumulates) {
  static const auto op = find_operator<decltype(linear_backward_weight)>("fpdist::linear_backward_weight");
  op.call(grad_out, x, grad_weight, accumulates);
}

void linear_backward_weight_bias(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight,
                                 at::Tensor& grad_bias, bool accumulates, bool accumulates_bias) {
  static const auto op = find_operator<decltype(linear_backward_weight_bias)>("fpdist::linear_backward_weight_bias");
  op.call(grad_out, x, grad_weight, grad_bias, accumulates, accumulates_bias);
}

void check_linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                  const std::optional<at::Tensor>& residual) {
  check_model_tensor("linear", "x", x, 2);
  check_model_tensor("linear", "weight", weight, 2);
  check_dtype("linear", "weight", weight, x.scalar_type());
  check_device("linear", "weight", weight, x);
  check(x.size(1) == weight.size(1), "linear: x has ", x.size(1), " columns, weight ", weight.size(1));
  if (bias) {
    check_dtype("linear", "bias", *bias, x.scalar_type());
    check_device("linear", "bias", *bias, x);
    check_sizes("linear", "bias", *bias, {weight.size(0)});
  }
  if (residual) {
    check_model_tensor("linear", "residual", *residual, 2);
    check_dtype("linear", "residual", *residual, x.scalar_type());
    check_device("linear", "residual", *residual, x);
    check_sizes("linear", "residual", *residual, {x.size(0), weight.size(0)});
  }
}

void check_linear_backward_input(const at::Tensor& grad_out, const at::Tensor& weight) {
  constexpr const char* kName = "linear_backward_input";
  check_model_tensor(kName, "grad_out", grad_out, 2);
  check_model_tensor(kName, "weight", weight, 2);
  check_dtype(kName, "weight", weight, grad_out.scalar_type());
  check_device(kName, "weight", weight, grad_out);
  check(grad_out.size(1) == weight.size(0), kName, ": grad_out has ", grad_out.size(1), " columns, weight ",
        weight.size(0), " rows");
}

void check_linear_backward_weight(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& grad_weight) {
  constexpr const char* kName = "linear_backward_weight";
  check_model_tensor(kName, "grad_out", grad_out, 2);
  check_model_tensor(kName, "x", x, 2);
  check_dtype(kName, "grad_weight", grad_weight, accumulate_dtype_of(x.scalar_type()));
  check_device(kName, "x", x, grad_out);
  check_device(kName, "grad_weight", grad_weight, grad_out);
  check(grad_out.size(0) == x.size(0), kName, ": grad_out has ", grad_out.size(0), " rows, x ", x.size(0));
  check_sizes(kName, "grad_weight", grad_weight, {grad_out.size(1), x.size(1)});
}

void check_linear_backward_bias(const at::Tensor& grad_out, const at::Tensor& grad_bias) {
  constexpr const char* kName = "linear_backward_weight_bias";
  check_dtype(kName, "grad_bias", grad_bias, accumulate_dtype_of(grad_out.scalar_type()));
  check_device(kName, "grad_bias", grad_bias, grad_out);
  check_sizes(kName, "grad_bias", grad_bias, {grad_out.size(1)});
}

namespace {

at::Tensor linear_meta(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                       const std::optional<at::Tensor>& residual) {
  check_linear(x, weight, bias, residual);
  return at::empty({x.size(0), weight.size(0)}, x.options());
}

at::Tensor wide_linear_meta(const at::Tensor& x, const at::Tensor& weight) {
  check_linear(x, weight, std::nullopt);
  return at::empty({x.size(0), weight.size(0)}, x.options().dtype(accumulate_dtype_of(x.scalar_type())));
}

at::Tensor linear_backward_input_meta(const at::Tensor& grad_out, const at::Tensor& weight) {
  check_linear_backward_input(grad_out, weight);
  return at::empty({grad_out.size(0), weight.size(1)}, grad_out.options());
}

void linear_backward_weight_meta(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight, bool) {
  check_linear_backward_weight(grad_out, x, grad_weight);
}

void linear_backward_weight_bias_meta(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight,
                                      at::Tensor& grad_bias, bool, bool) {
  check_linear_backward_weight(grad_out, x, grad_weight);
  check_linear_backward_bias(grad_out, grad_bias);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "linear(Tensor x, Tensor weight, Tensor? bias=None, Tensor? weight_main_grad=None, Tensor? bias_main_grad=None, "
      "Tensor? residual=None) -> Tensor");
  m.def("wide_linear(Tensor x, Tensor weight) -> Tensor");
  m.def("linear_backward_input(Tensor grad_out, Tensor weight) -> Tensor");
  m.def("linear_backward_weight(Tensor grad_out, Tensor x, Tensor(a!) grad_weight, bool accumulates=True) -> ()");
  m.def(
      "linear_backward_weight_bias(Tensor grad_out, Tensor x, Tensor(a!) grad_weight, Tensor(b!) grad_bias,"
      " bool accumulates=True, bool accumulates_bias=True) -> ()");
}

TORCH_LIBRARY_IMPL(fpdist, Meta, m) {
  m.impl("linear", fpdist::kernels::linear_meta);
  m.impl("wide_linear", fpdist::kernels::wide_linear_meta);
  m.impl("linear_backward_input", fpdist::kernels::linear_backward_input_meta);
  m.impl("linear_backward_weight", fpdist::kernels::linear_backward_weight_meta);
  m.impl("linear_backward_weight_bias", fpdist::kernels::linear_backward_weight_bias_meta);
}
