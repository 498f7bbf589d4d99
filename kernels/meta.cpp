// Every operator on the Meta device: the checks of the others and the shapes of the results, no element read or
// written. What runs here runs without ever asking a device for a value; torch.compile reads the shapes.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

at::Tensor wide_like(const at::Tensor& like, at::IntArrayRef sizes) {
  return at::empty(sizes, like.options().dtype(accumulate_dtype_of(like.scalar_type())));
}

at::Tensor linear_meta(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias, const OptionalTensor&,
                       const OptionalTensor&, const OptionalTensor& residual) {
  check_linear(x, weight, bias, residual);
  return at::empty({x.size(0), weight.size(0)}, x.options());
}

at::Tensor linear_backward_input_meta(const at::Tensor& grad_out, const at::Tensor& weight) {
  check_linear_backward_input(grad_out, weight);
  return at::empty({grad_out.size(0), weight.size(1)}, grad_out.options());
}

void linear_backward_weight_meta(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight) {
  check_linear_backward_weight(grad_out, x, grad_weight);
}

void linear_backward_weight_bias_meta(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight,
                                      at::Tensor& grad_bias) {
  check_linear_backward_weight(grad_out, x, grad_weight);
  check_linear_backward_bias(grad_out, grad_bias);
}

at::Tensor rms_norm_meta(const at::Tensor& x, const at::Tensor& weight, double, const OptionalTensor&) {
  check_rms_norm(x, weight);
  return at::empty(x.sizes(), x.options());
}

std::tuple<at::Tensor, at::Tensor> rms_norm_backward_meta(const at::Tensor& grad_out, const at::Tensor& x,
                                                          const at::Tensor& weight, double) {
  check_rms_norm_backward(grad_out, x, weight);
  return {at::empty(x.sizes(), x.options()), wide_like(x, weight.sizes())};
}

at::Tensor rotary_meta(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool) {
  check_rotary(x, cos, sin);
  return at::empty(x.sizes(), x.options());
}

at::Tensor swiglu_meta(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  return at::empty(gate.sizes(), gate.options());
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward_meta(const at::Tensor& grad_out, const at::Tensor& gate,
                                                        const at::Tensor& up) {
  check_swiglu_backward(grad_out, gate, up);
  return {at::empty(gate.sizes(), gate.options()), at::empty(gate.sizes(), gate.options())};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> partial_logprob_meta(const at::Tensor& hidden,
                                                                                            const at::Tensor& weight,
                                                                                            const at::Tensor& score_row,
                                                                                            const at::Tensor& target,
                                                                                            double temperature) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  const int64_t rows = hidden.size(0);
  return {wide_like(hidden, score_row.sizes()), wide_like(hidden, {rows}), wide_like(hidden, {rows}),
          wide_like(hidden, {rows}), at::empty({rows}, score_row.options())};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> selected_logprob_meta(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, const OptionalTensor&) {
  const auto [logp, lse, entropy, best, argmax] = partial_logprob_meta(hidden, weight, score_row, target, temperature);
  return {logp, entropy, argmax, lse};
}

at::Tensor selected_logprob_backward_meta(const OptionalTensor&, const OptionalTensor&, const at::Tensor& hidden,
                                          const at::Tensor& weight, const at::Tensor& score_row,
                                          const at::Tensor& target, const at::Tensor&, const at::Tensor&,
                                          double temperature, const OptionalTensor& grad_weight) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  check_main_grad(grad_weight, weight);
  return at::empty(hidden.sizes(), hidden.options());
}

std::tuple<at::Tensor, at::Tensor> tree_attention_meta(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                       const at::Tensor& q_row, const at::Tensor& k_row,
                                                       const at::Tensor& k_end, double) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  return {wide_like(q, q.sizes()), wide_like(q, {q.size(0), q.size(1)})};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> tree_attention_backward_meta(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, const at::Tensor& q_row, const at::Tensor& k_row, const at::Tensor& k_end, double) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  check_tree_attention_backward(grad_out, q, out, lse);
  return {wide_like(q, q.sizes()), wide_like(q, k.sizes()), wide_like(q, v.sizes())};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, Meta, m) {
  m.impl("linear", fpdist::kernels::linear_meta);
  m.impl("linear_backward_input", fpdist::kernels::linear_backward_input_meta);
  m.impl("linear_backward_weight", fpdist::kernels::linear_backward_weight_meta);
  m.impl("linear_backward_weight_bias", fpdist::kernels::linear_backward_weight_bias_meta);
  m.impl("rms_norm", fpdist::kernels::rms_norm_meta);
  m.impl("rms_norm_backward", fpdist::kernels::rms_norm_backward_meta);
  m.impl("rotary", fpdist::kernels::rotary_meta);
  m.impl("swiglu", fpdist::kernels::swiglu_meta);
  m.impl("swiglu_backward", fpdist::kernels::swiglu_backward_meta);
  m.impl("partial_logprob", fpdist::kernels::partial_logprob_meta);
  m.impl("selected_logprob", fpdist::kernels::selected_logprob_meta);
  m.impl("selected_logprob_backward", fpdist::kernels::selected_logprob_backward_meta);
  m.impl("tree_attention", fpdist::kernels::tree_attention_meta);
  m.impl("tree_attention_backward", fpdist::kernels::tree_attention_backward_meta);
}
