#include "src/ops/mean_logits.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "fpdist/ops/functional.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/mixed_sums.hpp"
#include "kernels/linear/packed_weight.hpp"
#include "src/ops/batch_invariant.hpp"

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
  if (head.packed && head.packed->part.size() == 1) return kernels::packed_linear(hidden, *head.packed);
  if (head.packed) {
    at::Tensor all = at::empty({hidden.size(0), head.packed->out}, hidden.options());
    packed_products(hidden, *head.packed, all, /*accumulates=*/false);
    return all;
  }
  if (!hidden.is_cpu()) return kernels::wide_linear(hidden, head.value);
  const int64_t vocabulary = head.value.size(0);
  at::Tensor all =
      at::empty({hidden.size(0), vocabulary}, hidden.options().dtype(accumulate_dtype(hidden.scalar_type())));
  for_output_parts(vocabulary, [&](int64_t begin, int64_t count) {
    all.narrow(1, begin, count).copy_(kernels::wide_linear(hidden, head.value.narrow(0, begin, count)));
  });
  return all;
}

at::Tensor transposed_logits(const at::Tensor& hidden, const Parameter& head) {
  const at::NoGradGuard no_grad;
  return kernels::wide_linear(head.value, hidden);
}

}  // namespace fpdist::ops
