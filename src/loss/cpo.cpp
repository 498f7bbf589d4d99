#include "src/loss/cpo.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "src/loss/unreferenced.hpp"

namespace fpdist::loss {
namespace {

/// [B] what stands for a log-prob.
at::Tensor alpha_reward(const at::Tensor& logp, double alpha) {
  return alpha == 0 ? logp : (1 - (-alpha * logp).exp()) / alpha;
}

/// Compares means over an answer's tokens.
bool is_of_tokens(const std::string& type) { return type == "ipo" || type == "simpo" || type == "comparative"; }

at::Tensor pair_terms(const at::Tensor& margin, const LossOptions& options) {
  const std::string& type = options.loss_type.front();
  if (type == "hinge") return at::relu(1 - options.beta * margin);
  if (type == "comparative") return at::relu(options.simpo_gamma - margin);
  if (type == "ipo") return (margin - 1 / (2 * options.beta)).square();
  const at::Tensor scaled = options.beta * (type == "simpo" ? margin - options.simpo_gamma / options.beta : margin);
  return -(1 - options.label_smoothing) * at::log_sigmoid(scaled) - options.label_smoothing * at::log_sigmoid(-scaled);
}

}  // namespace

LossOutput cpo_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  require_answers(edges, "cpo");
  const std::string& type = options.loss_type.front();
  const at::Tensor sum = segment_sum(edges.logp, edges);
  const at::Tensor logp = is_of_tokens(type) ? sum / length_or_one(edges) : sum;
  const at::Tensor reward = alpha_reward(logp, options.alpha);
  const at::Tensor per_pair = pair_terms(chosen(reward) - rejected(reward), options);
  const at::Tensor nll = -chosen(sum);
  const auto pairs = static_cast<double>(std::max<int64_t>(totals.groups, 1));
  const auto tokens = static_cast<double>(std::max<int64_t>(totals.first_edges, 1));
  at::Tensor per_term = per_pair / pairs + (options.cpo_alpha / tokens) * nll;
  auto metrics = answer_metrics(edges, options.beta * reward, logp, at::ones_like(edges.logp));
  metrics["nll_loss"] = mean_over(nll, chosen(edges.length));
  if (options.kl_weight > 0) {
    require(edges.base_kl, edges.sample.numel(), "base_kl", "cpo");
    const at::Tensor kl = segment_sum(edges.base_kl, edges);
    const auto all_tokens = static_cast<double>(std::max<int64_t>(totals.edges, 1));
    per_term = per_term + (options.kl_weight / all_tokens) * (chosen(kl) + rejected(kl));
    metrics["kl"] = mean_of(edges.base_kl);
  }
  const at::Tensor terms = weighted(per_term, edges.pair_weight, "pair_weight", "cpo");
  return {.loss = terms.sum(), .metrics = std::move(metrics), .size = terms.detach().abs().sum()};
}

}  // namespace fpdist::loss
