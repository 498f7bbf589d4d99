#include "src/ops/mean_logits.hpp"

#include <ATen/core/grad_mode.h>

#include "kernels/linear/linear.hpp"
#include "kernels/linear/mixed_sums.hpp"
#include "kernels/linear/packed_weight.hpp"

namespace fpdist::ops {

at::Tensor mean_row(const at::Tensor& weight, double vocabulary) {
  const at::NoGradGuard no_grad;
  return kernels::column_sum(weight).div_(vocabulary);
}

at::Tensor mean_logits(const at::Tensor& hidden, const at::Tensor& mean_row) {
  const at::NoGradGuard no_grad;
  return kernels::row_products(hidden, mean_row);
}

at::Tensor logits(const at::Tensor& hidden, const Parameter& head) {
  const at::NoGradGuard no_grad;
  return head.packed ? kernels::packed_linear(hidden, *head.packed) : kernels::wide_linear(hidden, head.value);
}

at::Tensor transposed_logits(const at::Tensor& hidden, const Parameter& head) {
  const at::NoGradGuard no_grad;
  return kernels::wide_linear(head.value, hidden);
}

}  // namespace fpdist::ops
