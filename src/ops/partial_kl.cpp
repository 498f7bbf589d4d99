#include "src/ops/partial_kl.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>

#include "fpdist/core/error.hpp"
#include "kernels/linear/linear.hpp"

namespace fpdist::ops {
namespace {

/// Calls visit(first row, operands of some rows) for all of them.
template <typename Visit>
void for_chunks(const KlOperands& of, int64_t chunk_bytes, Visit visit) {
  const int64_t rows = of.hidden.size(0), vocabulary = of.weight.size(0);
  const auto bytes = static_cast<int64_t>(c10::elementSize(accumulate_dtype(of.hidden.scalar_type())));
  const int64_t most = std::max<int64_t>(1, chunk_bytes / std::max<int64_t>(1, vocabulary * bytes));
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t count = std::min(most, rows - first);
    KlOperands some = of;
    some.hidden = of.hidden.narrow(0, first, count), some.base_hidden = of.base_hidden.narrow(0, first, count);
    visit(first, some);
  }
}

at::Tensor logits_of(const at::Tensor& hidden, const at::Tensor& weight, double temperature) {
  const at::Tensor logits = kernels::wide_linear(hidden, weight);
  return temperature == 1 ? logits : logits / temperature;
}

void check_operands(const KlOperands& of) {
  const int64_t rows = of.hidden.size(0);
  check(of.hidden.dim() == 2 && of.base_hidden.dim() == 2 && of.base_hidden.size(0) == rows, "kl: rows of shapes ",
        of.hidden.sizes(), " and ", of.base_hidden.sizes(), ", needs [R,H] of one R");
  check(of.weight.size(0) == of.base_weight.size(0), "kl: vocabularies of ", of.weight.size(0), " and ",
        of.base_weight.size(0), " tokens");
}

}  // namespace

PartialKl partial_kl(const KlOperands& of, int64_t chunk_bytes) {
  const at::NoGradGuard no_grad;
  check_operands(of);
  const auto options = of.hidden.options().dtype(accumulate_dtype(of.hidden.scalar_type()));
  const int64_t rows = of.hidden.size(0);
  PartialKl all{at::zeros({rows}, options), at::full({rows}, -std::numeric_limits<double>::infinity(), options), {}};
  all.base_lse = all.lse.clone();
  if (of.weight.size(0) == 0) return all;
  for_chunks(of, chunk_bytes, [&](int64_t first, const KlOperands& some) {
    const at::Tensor z = logits_of(some.hidden, some.weight, of.temperature);
    const at::Tensor b = logits_of(some.base_hidden, some.base_weight, of.temperature).to(z.scalar_type());
    const auto put = [&](at::Tensor& into, const at::Tensor& rows_here) {
      into.narrow(0, first, rows_here.size(0)).copy_(rows_here);
    };
    put(all.lse, at::logsumexp(z, {1})), put(all.base_lse, at::logsumexp(b, {1}));
    put(all.difference, (at::softmax(b, 1) * (b - z)).sum(1));
  });
  return all;
}

MergedKl merge_kl(const PartialKl& stacked) {
  const at::NoGradGuard no_grad;
  const at::Tensor lse = at::logsumexp(stacked.lse, {0}), base_lse = at::logsumexp(stacked.base_lse, {0});
  const at::Tensor share = (stacked.base_lse - base_lse).exp();  // of each slice: 0 of an empty one
  return {(share * stacked.difference).sum(0) - base_lse + lse, lse, base_lse};
}

at::Tensor partial_kl_backward(const at::Tensor& grad_kl, const KlOperands& of, const MergedKl& merged,
                               MainGrad main_grad, int64_t chunk_bytes) {
  const at::NoGradGuard no_grad;
  at::Tensor dh = at::zeros_like(of.hidden);
  const auto run = [&](at::Tensor* dw, bool accumulates) {
    if (dw != nullptr && !accumulates) dw->zero_();
    if (of.weight.size(0) == 0) return;
    for_chunks(of, chunk_bytes, [&](int64_t first, const KlOperands& some) {
      const auto here = [&](const at::Tensor& all) { return all.narrow(0, first, some.hidden.size(0)).unsqueeze(1); };
      at::Tensor dz = (logits_of(some.hidden, some.weight, of.temperature) - here(merged.lse)).exp_();
      const at::Tensor b = logits_of(some.base_hidden, some.base_weight, of.temperature).to(dz.scalar_type());
      dz.sub_((b - here(merged.base_lse)).exp_()).mul_(here(grad_kl) / of.temperature);
      dz = dz.to(of.hidden.scalar_type());
      dh.narrow(0, first, dz.size(0)).copy_(kernels::linear_backward_input(dz, some.weight));
      if (dw != nullptr) kernels::linear_backward_weight(dz, some.hidden, *dw);
    });
  };
  if (main_grad.sum())
    main_grad.put([&](at::Tensor& sum, bool accumulates) { run(&sum, accumulates); });
  else
    run(nullptr, true);
  return dh;
}

}  // namespace fpdist::ops
