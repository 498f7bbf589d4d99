#include "src/loss/kto.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "src/loss/segments.hpp"

namespace fpdist::loss {
namespace {

at::Tensor log_ratios(const Edges& edges) {
  return segment_sum(edges.logp, edges) - segment_sum(edges.ref_logp, edges);
}

void check_edges(const Edges& edges) {
  const int64_t count = edges.sample.numel();
  require(edges.logp, count, "logp", "kto");
  require(edges.ref_logp, count, "ref_logp", "kto");
  require(edges.entropy, count, "entropy", "kto");
  require(edges.mean_logit, count, "mean_logit", "kto");
  require(edges.wanted, edges.length.size(0), "wanted", "kto");
}

/// The mean over wanted answers minus that over the others, of one step: what a pack adds to it.
Metric margin_of(const at::Tensor& reward, const at::Tensor& wanted, const plan::StepTotals& totals) {
  const auto share = [](int64_t count) { return count > 0 ? 1 / static_cast<double>(count) : 0.0; };
  const bool has_both = totals.wanted > 0 && totals.samples > totals.wanted;
  const double better = has_both ? share(totals.wanted) : 0,
               worse = has_both ? share(totals.samples - totals.wanted) : 0;
  return {Combine::kSum, (reward * (better * wanted - worse * (1 - wanted))).sum(), {}};
}

}  // namespace

LossOutput kto_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  check_edges(edges);
  const at::Tensor ratio = log_ratios(edges), &wanted = edges.wanted;
  at::Tensor kl = at::zeros({}, ratio.options());
  if (edges.step.sample.defined() && edges.step.sample.size(0) > 0)
    kl = edges.step.sample.mean().clamp_min(0).to(ratio.dtype());
  const at::Tensor sign = 2 * wanted - 1;
  const at::Tensor weight = options.desirable_weight * wanted + options.undesirable_weight * (1 - wanted);
  const at::Tensor terms = weight * (1 - at::sigmoid(options.beta * sign * (ratio - kl)));
  const at::Tensor reward = options.beta * ratio.detach(), logp = segment_sum(edges.logp, edges);
  const at::Tensor wanted_edge = at_edges(wanted, edges);
  const auto samples = static_cast<double>(std::max<int64_t>(totals.samples, 1));
  return {.loss = terms.sum() / samples,
          .metrics = {{"kl", mean_of(kl.expand_as(ratio))},
                      {"entropy", mean_of(edges.entropy)},
                      {"logits/chosen", mean_of(edges.mean_logit, wanted_edge)},
                      {"logits/rejected", mean_of(edges.mean_logit, 1 - wanted_edge)},
                      {"rewards/chosen", mean_of(reward, wanted)},
                      {"rewards/rejected", mean_of(reward, 1 - wanted)},
                      {"rewards/margins", margin_of(reward, wanted, totals)},
                      {"logps/chosen", mean_of(logp, wanted)},
                      {"logps/rejected", mean_of(logp, 1 - wanted)}}};
}

View kto_look(const Edges& edges, const LossOptions&) {
  const at::NoGradGuard no_grad;
  return {.sample = log_ratios(edges).unsqueeze(1)};
}

}  // namespace fpdist::loss
