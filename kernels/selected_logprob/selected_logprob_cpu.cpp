// CPU twin of selected_logprob.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "kernels/common/checks.hpp"
#include "kernels/selected_logprob/row_statistics.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kChunkBytes = 32 << 20;  // of logits alive at a time
constexpr const char* kName = "selected_logprob";

void check_arguments(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                     const at::Tensor& target, double temperature) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  const int64_t rows = hidden.size(0), vocabulary = weight.size(0), scores = score_row.size(0);
  const at::Tensor row = score_row.contiguous(), token = target.contiguous();
  const int64_t *r = row.const_data_ptr<int64_t>(), *t = token.const_data_ptr<int64_t>();
  for (int64_t s = 0; s < scores; ++s) {
    check(r[s] >= 0 && r[s] < rows, kName, ": score_row[", s, "] = ", r[s], " is outside [0, ", rows, ")");
    check(s == 0 || r[s - 1] <= r[s], kName, ": score_row[", s, "] = ", r[s], " follows ", r[s - 1],
          ": sort the scores by row");
    check(t[s] >= -1 && t[s] < vocabulary, kName, ": target[", s, "] = ", t[s], " is outside [0, ", vocabulary,
          ") and not -1 (no column)");
  }
}

/// Walks the rows in chunks: visit(row begin, row end, score begin, score end).
template <typename Visit>
void for_chunks(int64_t rows, int64_t vocabulary, int64_t element_bytes, const at::Tensor& score_row, Visit visit) {
  const at::Tensor row = score_row.contiguous();
  const int64_t* first = row.const_data_ptr<int64_t>();
  const int64_t* last = first + row.numel();
  const int64_t step = std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, vocabulary * element_bytes));
  for (int64_t begin = 0, score = 0; begin < rows; begin += step) {
    const int64_t end = std::min(rows, begin + step);
    const int64_t score_end = std::lower_bound(first + score, last, end) - first;
    visit(begin, end, score, score_end);
    score = score_end;
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> partial_cpu(const at::Tensor& hidden,
                                                                                   const at::Tensor& weight,
                                                                                   const at::Tensor& score_row,
                                                                                   const at::Tensor& target,
                                                                                   double temperature) {
  check_arguments(hidden, weight, score_row, target, temperature);
  const auto dtype = accumulate_dtype_of(hidden.scalar_type());
  const int64_t rows = hidden.size(0), vocabulary = weight.size(0);
  const auto options = hidden.options().dtype(dtype);
  at::Tensor logit = at::empty({score_row.size(0)}, options), lse = at::empty({rows}, options);
  at::Tensor entropy = at::empty({rows}, options), best = at::empty({rows}, options);
  at::Tensor argmax = at::empty({rows}, options.dtype(at::kLong));
  const at::Tensor h = hidden.to(dtype), w = weight.to(dtype).t();
  const at::Tensor row = score_row.contiguous(), token = target.contiguous();
  const int64_t *row_of = row.const_data_ptr<int64_t>(), *token_of = token.const_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES(dtype, "partial_logprob", [&] {
    scalar_t *logit_of = logit.mutable_data_ptr<scalar_t>(), *lses = lse.mutable_data_ptr<scalar_t>();
    scalar_t *entropies = entropy.mutable_data_ptr<scalar_t>(), *bests = best.mutable_data_ptr<scalar_t>();
    int64_t* argmaxes = argmax.mutable_data_ptr<int64_t>();
    const auto factor = static_cast<scalar_t>(1 / temperature);
    for_chunks(rows, vocabulary, sizeof(scalar_t), row, [&](int64_t begin, int64_t end, int64_t score, int64_t stop) {
      const at::Tensor logits = at::mm(h.slice(0, begin, end), w);
      const scalar_t* chunk = logits.const_data_ptr<scalar_t>();
      at::parallel_for(begin, end, 1, [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
          const RowStatistics of_row = row_statistics(chunk + (r - begin) * vocabulary, vocabulary, factor);
          lses[r] = static_cast<scalar_t>(of_row.lse);
          entropies[r] = static_cast<scalar_t>(of_row.entropy);
          bests[r] = static_cast<scalar_t>(of_row.best);
          argmaxes[r] = of_row.argmax;
        }
      });
      for (int64_t s = score; s < stop; ++s)
        logit_of[s] = token_of[s] < 0 ? -std::numeric_limits<scalar_t>::infinity()
                                      : chunk[(row_of[s] - begin) * vocabulary + token_of[s]] * factor;
    });
  });
  return {logit, lse, entropy, best, argmax};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward_cpu(const at::Tensor& hidden,
                                                                       const at::Tensor& weight,
                                                                       const at::Tensor& score_row,
                                                                       const at::Tensor& target, double temperature,
                                                                       const std::optional<at::Tensor>&) {
  const auto [logit, lse, entropy, best, argmax] = partial_cpu(hidden, weight, score_row, target, temperature);
  return {logit - lse.index_select(0, score_row), entropy, argmax, lse};
}

at::Tensor backward_cpu(const std::optional<at::Tensor>& grad_logp, const std::optional<at::Tensor>& grad_entropy,
                        const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                        const at::Tensor& target, const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                        const std::optional<at::Tensor>& grad_weight, bool accumulates,
                        const std::optional<at::Tensor>&) {
  check_arguments(hidden, weight, score_row, target, temperature);
  const auto dtype = accumulate_dtype_of(hidden.scalar_type());
  check_main_grad(grad_weight, weight);
  at::Tensor dw = grad_weight.value_or(at::Tensor());
  if (dw.defined() && !accumulates) dw.zero_();
  const at::Tensor h = hidden.to(dtype), w = weight.to(dtype);
  at::Tensor dh = at::zeros(hidden.sizes(), h.options());
  for_chunks(
      hidden.size(0), weight.size(0), h.element_size(), score_row, [&](int64_t b, int64_t e, int64_t s, int64_t t) {
        const at::Tensor h_chunk = h.slice(0, b, e), lse_chunk = lse.slice(0, b, e).unsqueeze(1);
        at::Tensor d = at::mm(h_chunk, w.t()).div_(temperature).sub_(lse_chunk);  // log p
        const at::Tensor row = score_row.slice(0, s, t) - b, token = target.slice(0, s, t);
        at::Tensor row_grad = at::zeros({e - b}, h.options());
        if (grad_logp) row_grad.index_add_(0, row, grad_logp->slice(0, s, t));
        at::Tensor factor = row_grad.unsqueeze(1).neg();
        if (grad_entropy) {
          factor = factor - grad_entropy->slice(0, b, e).unsqueeze(1) * (d + entropy.slice(0, b, e).unsqueeze(1));
        }
        d.exp_().mul_(factor);
        if (grad_logp) {
          const at::Tensor own = token.ge(0).nonzero().squeeze(1);
          d.index_put_({row.index_select(0, own), token.index_select(0, own)},
                       grad_logp->slice(0, s, t).index_select(0, own), /*accumulate=*/true);
        }
        d.div_(temperature);
        dh.slice(0, b, e).copy_(at::mm(d, w));
        if (dw.defined()) dw.addmm_(d.t(), h_chunk);
      });
  return dh.to(hidden.scalar_type());
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("partial_logprob", fpdist::kernels::partial_cpu);
  m.impl("selected_logprob", fpdist::kernels::forward_cpu);
  m.impl("selected_logprob_backward", fpdist::kernels::backward_cpu);
}
