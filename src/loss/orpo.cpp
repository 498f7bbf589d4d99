#include "src/loss/orpo.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "src/loss/unreferenced.hpp"

namespace fpdist::loss {
namespace {

/// log(1 - exp(x)) for x < 0, in the form that keeps its digits on either side of -log 2. An answer that is certain, or
/// has no tokens, counts as next to certain.
at::Tensor log1mexp(const at::Tensor& x) {
  constexpr double kNextToCertain = -1e-30;
  const double middle = -std::log(2.0);
  // Both forms are taken everywhere, each of what it is good for: their gradients must not be infinite times 0.
  const at::Tensor near = (-at::expm1(x.clamp(middle, kNextToCertain))).log();
  const at::Tensor far = at::log1p(-at::exp(x.clamp_max(middle)));
  return at::where(x.lt(middle), far, near);
}

}  // namespace

LossOutput orpo_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  require_answers(edges, "orpo");
  require(edges.position, edges.sample.numel(), "position", "orpo");
  const at::Tensor in_answer = edges.position.ge(0).to(edges.logp.dtype());
  const at::Tensor length = segment_sum(in_answer, edges).clamp_min(1);
  const at::Tensor logp = segment_sum(edges.logp * in_answer, edges) / length;
  const at::Tensor log_odds = chosen(logp) - rejected(logp) - (log1mexp(chosen(logp)) - log1mexp(rejected(logp)));
  const at::Tensor ratio = at::log_sigmoid(log_odds);
  const at::Tensor nll = -chosen(segment_sum(edges.logp, edges));
  const auto pairs = static_cast<double>(std::max<int64_t>(totals.groups, 1));
  const auto tokens = static_cast<double>(std::max<int64_t>(totals.first_edges, 1));
  const at::Tensor terms =
      weighted(nll / tokens - (options.beta / pairs) * ratio, edges.pair_weight, "pair_weight", "orpo");
  auto metrics = answer_metrics(edges, options.beta * logp, logp, in_answer);
  metrics["nll_loss"] = mean_over(nll, chosen(edges.length));
  metrics["log_odds_ratio"] = mean_of(ratio), metrics["log_odds_chosen"] = mean_of(log_odds);
  return {.loss = terms.sum(), .metrics = std::move(metrics), .size = terms.detach().abs().sum()};
}

}  // namespace fpdist::loss
