#include "kernels/selected_logprob/selected_logprob.hpp"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/wide.hpp"

namespace fpdist::kernels {

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> partial_logprob(const at::Tensor& hidden,
                                                                                       const at::Tensor& weight,
                                                                                       const at::Tensor& score_row,
                                                                                       const at::Tensor& target,
                                                                                       double temperature) {
  static const auto op = find_operator<decltype(partial_logprob)>("fpdist::partial_logprob");
  return op.call(hidden, weight, score_row, target, temperature);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> selected_logprob(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, const std::optional<at::Tensor>& weight_main_grad) {
  static const auto op = find_operator<decltype(selected_logprob)>("fpdist::selected_logprob");
  return op.call(hidden, weight, score_row, target, temperature, weight_main_grad);
}

KeptLogprob keeping_logprob(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                            const at::Tensor& target, double temperature, bool is_relative) {
  static const auto op = find_operator<FlatKeepingLogprob>("fpdist::keeping_logprob");
  const auto [logit, lse, entropy, best, argmax, logits] =
      op.call(hidden, weight, score_row, target, temperature, is_relative);
  return {logit, lse, entropy, best, argmax, logits.numel() == 0 ? at::Tensor() : logits};
}

at::Tensor selected_logprob_backward(const std::optional<at::Tensor>& grad_logp,
                                     const std::optional<at::Tensor>& grad_entropy, const at::Tensor& hidden,
                                     const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
                                     const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                                     const std::optional<at::Tensor>& grad_weight, bool accumulates,
                                     const std::optional<at::Tensor>& logits) {
  static const auto op = find_operator<decltype(selected_logprob_backward)>("fpdist::selected_logprob_backward");
  return op.call(grad_logp, grad_entropy, hidden, weight, score_row, target, lse, entropy, temperature, grad_weight,
                 accumulates, logits);
}

void check_selected_logprob(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                            const at::Tensor& target, double temperature) {
  constexpr const char* kName = "selected_logprob";
  check_model_tensor(kName, "hidden", hidden, 2);
  check_model_tensor(kName, "weight", weight, 2);
  check_dtype(kName, "weight", weight, hidden.scalar_type());
  check(hidden.sym_size(1) == weight.sym_size(1), kName, ": hidden has ", hidden.sym_size(1), " columns, weight ",
        weight.sym_size(1));
  check(score_row.dim() == 1 && score_row.scalar_type() == at::kLong, kName, ": score_row must be int64 [S]");
  check_dtype(kName, "target", target, at::kLong);
  check(target.sym_sizes() == score_row.sym_sizes(), kName, ": target has shape ", target.sym_sizes(), ", needs ",
        score_row.sym_sizes());
  check_device(kName, "weight", weight, hidden);
  check_device(kName, "score_row", score_row, hidden);
  check_device(kName, "target", target, hidden);
  check(temperature > 0, kName, ": temperature is ", temperature, ": it must be above 0");
}

void check_main_grad(const std::optional<at::Tensor>& grad_weight, const at::Tensor& weight) {
  if (!grad_weight) return;
  check_dtype("selected_logprob", "grad_weight", *grad_weight, accumulate_dtype_of(weight.scalar_type()));
  check_device("selected_logprob", "grad_weight", *grad_weight, weight);
  check(grad_weight->sym_sizes() == weight.sym_sizes(), "selected_logprob: grad_weight has shape ",
        grad_weight->sym_sizes(), ", needs ", weight.sym_sizes());
}

namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> partial_logprob_meta(const at::Tensor& hidden,
                                                                                            const at::Tensor& weight,
                                                                                            const at::Tensor& score_row,
                                                                                            const at::Tensor& target,
                                                                                            double temperature) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  const c10::SymIntArrayRef rows = hidden.sym_sizes().slice(0, 1);  // as symbols, which torch.compile has for numbers
  const auto wide = hidden.options().dtype(accumulate_dtype_of(hidden.scalar_type()));
  const auto statistic = [&] { return at::empty_symint(rows, wide); };
  return {at::empty_symint(score_row.sym_sizes(), wide), statistic(), statistic(), statistic(),
          at::empty_symint(rows, score_row.options())};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> selected_logprob_meta(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, const std::optional<at::Tensor>&) {
  const auto [logp, lse, entropy, best, argmax] = partial_logprob_meta(hidden, weight, score_row, target, temperature);
  return {logp, entropy, argmax, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> keeping_logprob_meta(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, bool) {
  const auto [logit, lse, entropy, best, argmax] = partial_logprob_meta(hidden, weight, score_row, target, temperature);
  return {logit, lse, entropy, best, argmax, wide_like(hidden, {0})};  // what is kept is each device's own affair
}

at::Tensor selected_logprob_backward_meta(const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                                          const at::Tensor& hidden, const at::Tensor& weight,
                                          const at::Tensor& score_row, const at::Tensor& target, const at::Tensor&,
                                          const at::Tensor&, double temperature,
                                          const std::optional<at::Tensor>& grad_weight, bool,
                                          const std::optional<at::Tensor>&) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  check_main_grad(grad_weight, weight);
  return at::empty_symint(hidden.sym_sizes(), hidden.options());
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "partial_logprob(Tensor hidden, Tensor weight, Tensor score_row, Tensor target, float temperature=1.0)"
      " -> (Tensor logit, Tensor lse, Tensor entropy, Tensor best, Tensor argmax)");
  m.def(
      "selected_logprob(Tensor hidden, Tensor weight, Tensor score_row, Tensor target, float temperature=1.0,"
      " Tensor? weight_main_grad=None) -> (Tensor logp, Tensor entropy, Tensor argmax, Tensor lse)");
  m.def(
      "keeping_logprob(Tensor hidden, Tensor weight, Tensor score_row, Tensor target, float temperature,"
      " bool is_relative) -> (Tensor logit, Tensor lse, Tensor entropy, Tensor best, Tensor argmax, Tensor logits)");
  m.def(
      "selected_logprob_backward(Tensor? grad_logp, Tensor? grad_entropy, Tensor hidden, Tensor weight,"
      " Tensor score_row, Tensor target, Tensor lse, Tensor entropy, float temperature, Tensor(a!)? grad_weight,"
      " bool accumulates=True, Tensor(b!)? logits=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(fpdist, Meta, m) {
  m.impl("partial_logprob", fpdist::kernels::partial_logprob_meta);
  m.impl("selected_logprob", fpdist::kernels::selected_logprob_meta);
  m.impl("keeping_logprob", fpdist::kernels::keeping_logprob_meta);
  m.impl("selected_logprob_backward", fpdist::kernels::selected_logprob_backward_meta);
}
