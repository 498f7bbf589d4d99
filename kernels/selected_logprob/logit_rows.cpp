#include "kernels/selected_logprob/logit_rows.hpp"

#include <ATen/ATen.h>

#include <limits>

#include "kernels/common/dispatch.hpp"

namespace fpdist::kernels {
namespace {

/// Where each score lies in the logits: its row there, its column, and whether it has them. The others point at places
/// of the logits too, spread so that adding their zeros does not queue up at one.
struct ScorePlaces {
  at::Tensor row, column, is_here, has_column;
};

ScorePlaces places_of(const LogitScores& scores, int64_t rows) {
  const at::Tensor local = scores.row - scores.first_row;
  return {local.remainder(rows), scores.target.clamp_min(0), local.ge(0).bitwise_and(local.lt(rows)),
          scores.target.ge(0)};
}

}  // namespace

void composed_logit_statistics(at::Tensor& logits, const LogitScores& scores, LogitResults& results) {
  const int64_t rows = logits.size(0);
  const auto own = [&](const at::Tensor& whole) { return whole.narrow(0, scores.first_row, rows); };
  if (scores.temperature != 1) logits.div_(scores.temperature);
  const ScorePlaces place = places_of(scores, rows);
  at::Tensor logit = logits.index({place.row, place.column});
  const auto [highest, index] = logits.max(1, /*keepdim=*/true);
  const at::Tensor below = logits.sub_(highest), weights = at::exp(below);
  const at::Tensor sum = weights.sum(1, /*keepdim=*/true), log_sum = at::log(sum);
  own(results.lse).copy_((highest + log_sum).squeeze(1));
  own(results.entropy).copy_((log_sum - below.mul_(weights).sum(1, /*keepdim=*/true) / sum).squeeze(1));
  own(results.best).copy_(highest.squeeze(1));
  own(results.argmax).copy_(index.squeeze(1));
  if (results.is_relative) logit = logit - own(results.lse).index({place.row});
  logit.masked_fill_(place.has_column.bitwise_not(), -std::numeric_limits<double>::infinity());
  results.logit.copy_(at::where(place.is_here, logit, results.logit));
}

at::Tensor composed_logit_gradient(at::Tensor& logits, const LogitScores& scores, const LogitGradients& of,
                                   at::ScalarType dtype) {
  const int64_t rows = logits.size(0);
  const auto own = [&](const at::Tensor& whole) { return whole.narrow(0, scores.first_row, rows).unsqueeze(1); };
  if (scores.temperature != 1) logits.div_(scores.temperature);
  at::Tensor d = logits.sub_(own(of.lse));  // log p
  // Each row's sum of gradients. Accumulating index_put_ sorts on a GPU: one order, the same bits.
  at::Tensor row_grad = at::zeros({rows, 1}, logits.options()), grad;
  const ScorePlaces place = places_of(scores, rows);
  if (of.logp) {
    grad = of.logp->masked_fill(place.is_here.bitwise_not(), 0.0);
    row_grad.index_put_({place.row}, grad.unsqueeze(1), /*accumulate=*/true);
  }
  const at::Tensor p = at::exp(d);
  if (of.entropy) {
    d.add_(own(of.row_entropy)).mul_(own(*of.entropy)).add_(row_grad).mul_(p).neg_();
  } else {
    d = at::mul(p, row_grad).neg_();
  }
  if (of.logp)
    d.index_put_({place.row, place.column}, grad.masked_fill(place.has_column.bitwise_not(), 0.0), /*accumulate=*/true);
  return (scores.temperature == 1 ? d : d.div_(scores.temperature)).to(dtype);
}

void logit_statistics(at::Tensor& logits, const LogitScores& scores, LogitResults& results) {
  static const auto op = find_operator<FlatLogitStatistics>("fpdist::logit_statistics");
  op.call(logits, scores.row, scores.target, scores.first_row, scores.temperature, results.logit, results.lse,
          results.entropy, results.best, results.argmax, results.is_relative);
}

at::Tensor logit_gradient(at::Tensor& logits, const LogitScores& scores, const LogitGradients& of,
                          at::ScalarType dtype) {
  static const auto op = find_operator<FlatLogitGradient>("fpdist::logit_gradient");
  op.call(logits, scores.row, scores.target, scores.first_row, scores.temperature, of.logp, of.entropy, of.lse,
          of.row_entropy, dtype);
  // Side by side from each row's begin, so that rows are twice as many elements apart where these are half as wide.
  return logits.view(dtype).narrow(1, 0, logits.size(1));
}

}  // namespace fpdist::kernels
