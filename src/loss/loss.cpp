#include "fpdist/loss/loss.hpp"

#include "fpdist/core/error.hpp"
#include "src/loss/families.hpp"

namespace fpdist::loss {

LossFunction make_loss(Method method, const LossOptions& options) {
  const LossOptions known = resolved(method, options);
  const auto bind = [&](auto family) {
    return [family, known](const Edges& edges, const plan::StepTotals& totals) { return family(edges, totals, known); };
  };
  switch (method) {
    case Method::kSft:
      return sft_loss;
    case Method::kDpo:
      return bind(dpo_loss);
    case Method::kReward:
      return bind(reward_loss);
    case Method::kGrpo:
      return bind(grpo_loss);
  }
  throw ConfigError("unknown method");
}

}  // namespace fpdist::loss
