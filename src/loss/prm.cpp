#include "src/loss/prm.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "src/loss/segments.hpp"

namespace fpdist::loss {

LossOutput prm_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions&) {
  const int64_t count = edges.sample.numel();
  require(edges.logp, count, "logp", "prm");
  require(edges.correct, count, "correct", "prm");
  require(edges.entropy, count, "entropy", "prm");
  const auto labels = static_cast<double>(std::max<int64_t>(totals.edges, 1));
  return {.loss = -weighted(edges.logp, edges.weight, "weight", "prm").sum() / labels,
          .metrics = {{"accuracy", mean_of(edges.correct)}, {"entropy", mean_of(edges.entropy)}}};
}

}  // namespace fpdist::loss
