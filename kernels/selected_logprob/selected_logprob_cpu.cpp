// CPU twin of selected_logprob: chunks of logits, bfloat16's by products that add up in float32, each row of which is
// reduced, or turned into its gradient, in one go.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/common/checks.hpp"
#include "kernels/common/stored.hpp"
#include "kernels/linear/host_product.hpp"
#include "kernels/selected_logprob/chunked_logprob.hpp"
#include "kernels/selected_logprob/row_gradient.hpp"
#include "kernels/selected_logprob/row_statistics.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"

namespace fpdist::kernels {
namespace {

// Of logits alive at a time. What backward finds still there it does not make again: 4,096 rows of a vocabulary of
// 8,192.
constexpr int64_t kHostChunkBytes = int64_t{128} << 20;
constexpr const char* kName = "selected_logprob";

LogitScores scores_of(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
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
  return {.row = row, .target = token, .temperature = temperature};
}

/// visit(row of the logits, its first score, behind its last) for every row, on several threads.
template <typename Visit>
void for_rows(const at::Tensor& logits, const LogitScores& scores, Visit visit) {
  const int64_t* row_of = scores.row.const_data_ptr<int64_t>();
  const int64_t* end = row_of + scores.row.numel();
  at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t stop) {
    const int64_t* score = std::lower_bound(row_of, end, scores.first_row + begin);
    for (int64_t row = begin; row < stop; ++row) {
      const int64_t* first = score;
      while (score != end && *score == scores.first_row + row) ++score;
      visit(row, first - row_of, score - row_of);
    }
  });
}

template <typename A>
void statistics(const at::Tensor& logits, const LogitScores& scores, LogitResults& results) {
  const A* all = logits.const_data_ptr<A>();
  const int64_t* target = scores.target.const_data_ptr<int64_t>();
  A *logit = results.logit.mutable_data_ptr<A>(), *lse = results.lse.mutable_data_ptr<A>();
  A *entropy = results.entropy.mutable_data_ptr<A>(), *best = results.best.mutable_data_ptr<A>();
  int64_t* argmax = results.argmax.mutable_data_ptr<int64_t>();
  const auto factor = static_cast<A>(1 / scores.temperature);
  for_rows(logits, scores, [&](int64_t row, int64_t first, int64_t last) {
    const A* here = all + row * logits.stride(0);
    const RowStatistics of_row = row_statistics(here, logits.size(1), factor);
    const int64_t to = scores.first_row + row;
    lse[to] = static_cast<A>(of_row.lse), entropy[to] = static_cast<A>(of_row.entropy);
    best[to] = static_cast<A>(of_row.best), argmax[to] = of_row.argmax;
    for (int64_t s = first; s < last; ++s) {
      const A own = target[s] < 0 ? -std::numeric_limits<A>::infinity() : here[target[s]] * factor;
      logit[s] = results.is_relative ? own - lse[to] : own;
    }
  });
}

void host_statistics(at::Tensor& logits, const LogitScores& scores, LogitResults& results) {
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), kName, [&] { statistics<scalar_t>(logits, scores, results); });
}

/// Of one row: its scores' logits, targets and gradients. They come in any order and may share a column.
template <typename A, typename S>
void add_scores(const A* logits, const RowTerms<A>& row, const int64_t* target, const A* grad, int64_t scores,
                S* gradient) {
  for (int64_t s = 0; s < scores; ++s) {
    if (target[s] < 0 || std::find(target, target + s, target[s]) != target + s) continue;
    A own = 0;
    for (int64_t t = s; t < scores; ++t)
      if (target[t] == target[s]) own += grad[t];
    gradient[target[s]] = stored<S>(column_gradient(logits[s], row, own));
  }
}

template <typename S, typename A>
void gradient(const at::Tensor& logits, const LogitScores& scores, const LogitGradients& of, const at::Tensor& to) {
  const A* all = logits.const_data_ptr<A>();
  const A *lse = of.lse.const_data_ptr<A>(), *entropy = of.row_entropy.const_data_ptr<A>();
  const A* of_logp = of.logp ? of.logp->const_data_ptr<A>() : nullptr;
  const A* of_entropy = of.entropy ? of.entropy->const_data_ptr<A>() : nullptr;
  const int64_t* target = scores.target.const_data_ptr<int64_t>();
  for_rows(logits, scores, [&](int64_t row, int64_t first, int64_t last) {
    const int64_t from = scores.first_row + row;
    RowTerms<A> made{.factor = static_cast<A>(1 / scores.temperature),
                     .lse = lse[from],
                     .entropy = entropy[from],
                     .logp = 0,
                     .of_entropy = of_entropy ? of_entropy[from] : A(0)};
    for (int64_t s = first; of_logp && s < last; ++s) made.logp += of_logp[s];
    const A* here = all + row * logits.stride(0);
    S* there = mutable_data<S>(to) + row * to.stride(0);
    std::vector<A> own_logits;  // gone where the gradient takes their place
    for (int64_t s = first; of_logp && s < last; ++s) own_logits.push_back(target[s] < 0 ? A(0) : here[target[s]]);
    row_gradient(here, logits.size(1), made, there);
    if (of_logp) add_scores(own_logits.data(), made, target + first, of_logp + first, last - first, there);
  });
}

at::Tensor host_gradient(at::Tensor& logits, const LogitScores& scores, const LogitGradients& of,
                         at::ScalarType dtype) {
  if (logits.scalar_type() == at::kDouble) return gradient<double, double>(logits, scores, of, logits), logits;
  if (dtype == at::kFloat) return gradient<float, float>(logits, scores, of, logits), logits;
  at::Tensor rounded = at::empty(logits.sizes(), logits.options().dtype(dtype));
  gradient<uint16_t, float>(logits, scores, of, rounded);
  return rounded;
}

const ChunkWork kWork{
    .product = host_product, .statistics = host_statistics, .gradient = host_gradient, .bytes = kHostChunkBytes};

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> partial_cpu(const at::Tensor& hidden,
                                                                                   const at::Tensor& weight,
                                                                                   const at::Tensor& score_row,
                                                                                   const at::Tensor& target,
                                                                                   double temperature) {
  const LogitScores scores = scores_of(hidden, weight, score_row, target, temperature);
  const LogitResults made = chunked_logprob(hidden, weight, scores, /*is_relative=*/false, kWork).results;
  return {made.logit, made.lse, made.entropy, made.best, made.argmax};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward_cpu(const at::Tensor& hidden,
                                                                       const at::Tensor& weight,
                                                                       const at::Tensor& score_row,
                                                                       const at::Tensor& target, double temperature,
                                                                       const std::optional<at::Tensor>&) {
  const LogitScores scores = scores_of(hidden, weight, score_row, target, temperature);
  const LogitResults made = chunked_logprob(hidden, weight, scores, /*is_relative=*/true, kWork).results;
  return {made.logit, made.entropy, made.argmax, made.lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> keeping_cpu(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, bool is_relative) {
  const LogitScores scores = scores_of(hidden, weight, score_row, target, temperature);
  const auto [made, memory] = chunked_logprob(hidden, weight, scores, is_relative, kWork);
  const at::Tensor logits = memory.defined() ? memory : at::empty({0}, made.lse.options());
  return {made.logit, made.lse, made.entropy, made.best, made.argmax, logits};
}

at::Tensor backward_cpu(const std::optional<at::Tensor>& grad_logp, const std::optional<at::Tensor>& grad_entropy,
                        const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                        const at::Tensor& target, const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                        const std::optional<at::Tensor>& grad_weight, bool accumulates,
                        const std::optional<at::Tensor>& logits) {
  const LogitScores scores = scores_of(hidden, weight, score_row, target, temperature);
  check_main_grad(grad_weight, weight);
  const auto dense = [](const std::optional<at::Tensor>& x) { return x ? std::optional(x->contiguous()) : x; };
  const LogitGradients of{.logp = dense(grad_logp),
                          .entropy = dense(grad_entropy),
                          .lse = lse.contiguous(),
                          .row_entropy = entropy.contiguous()};
  return chunked_logprob_backward(of, hidden, weight, scores, grad_weight, accumulates, kWork, logits);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("partial_logprob", fpdist::kernels::partial_cpu);
  m.impl("selected_logprob", fpdist::kernels::forward_cpu);
  m.impl("selected_logprob_backward", fpdist::kernels::backward_cpu);
  m.impl("keeping_logprob", fpdist::kernels::keeping_cpu);
}
