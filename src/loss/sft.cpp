#include "src/loss/sft.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "src/loss/segments.hpp"

namespace fpdist::loss {

LossOutput sft_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions&) {
  const int64_t count = edges.sample.numel();
  require(edges.logp, count, "logp", "sft");
  require(edges.entropy, count, "entropy", "sft");
  require(edges.correct, count, "correct", "sft");
  const auto tokens = static_cast<double>(std::max<int64_t>(totals.edges, 1));
  return {.loss = -weighted(edges.logp, edges.weight, "weight", "sft").sum() / tokens,
          .metrics = {{"entropy", mean_of(edges.entropy)}, {"mean_token_accuracy", mean_of(edges.correct)}}};
}

}  // namespace fpdist::loss
