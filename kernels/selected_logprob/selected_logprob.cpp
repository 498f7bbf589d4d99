#include "kernels/selected_logprob/selected_logprob.hpp"

#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"

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

at::Tensor selected_logprob_backward(const std::optional<at::Tensor>& grad_logp,
                                     const std::optional<at::Tensor>& grad_entropy, const at::Tensor& hidden,
                                     const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
                                     const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                                     const std::optional<at::Tensor>& grad_weight) {
  static const auto op = find_operator<decltype(selected_logprob_backward)>("fpdist::selected_logprob_backward");
  return op.call(grad_logp, grad_entropy, hidden, weight, score_row, target, lse, entropy, temperature, grad_weight);
}

void check_selected_logprob(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                            const at::Tensor& target, double temperature) {
  constexpr const char* kName = "selected_logprob";
  check_model_tensor(kName, "hidden", hidden, 2);
  check_model_tensor(kName, "weight", weight, 2);
  check_dtype(kName, "weight", weight, hidden.scalar_type());
  check(hidden.size(1) == weight.size(1), kName, ": hidden has ", hidden.size(1), " columns, weight ", weight.size(1));
  check(score_row.dim() == 1 && score_row.scalar_type() == at::kLong, kName, ": score_row must be int64 [S]");
  check_dtype(kName, "target", target, at::kLong);
  check_sizes(kName, "target", target, score_row.sizes());
  check_device(kName, "weight", weight, hidden);
  check_device(kName, "score_row", score_row, hidden);
  check_device(kName, "target", target, hidden);
  check(temperature > 0, kName, ": temperature is ", temperature, ": it must be above 0");
}

void check_main_grad(const std::optional<at::Tensor>& grad_weight, const at::Tensor& weight) {
  if (!grad_weight) return;
  check_dtype("selected_logprob", "grad_weight", *grad_weight, accumulate_dtype_of(weight.scalar_type()));
  check_device("selected_logprob", "grad_weight", *grad_weight, weight);
  check_sizes("selected_logprob", "grad_weight", *grad_weight, weight.sizes());
}

}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "partial_logprob(Tensor hidden, Tensor weight, Tensor score_row, Tensor target, float temperature=1.0)"
      " -> (Tensor logit, Tensor lse, Tensor entropy, Tensor best, Tensor argmax)");
  m.def(
      "selected_logprob(Tensor hidden, Tensor weight, Tensor score_row, Tensor target, float temperature=1.0,"
      " Tensor? weight_main_grad=None) -> (Tensor logp, Tensor entropy, Tensor argmax, Tensor lse)");
  m.def(
      "selected_logprob_backward(Tensor? grad_logp, Tensor? grad_entropy, Tensor hidden, Tensor weight,"
      " Tensor score_row, Tensor target, Tensor lse, Tensor entropy, float temperature, Tensor(a!)? grad_weight)"
      " -> Tensor");
}
