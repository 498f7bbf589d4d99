#include "src/loss/reward.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "src/loss/segments.hpp"

namespace fpdist::loss {

LossOutput reward_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  require(edges.score, edges.length.size(0), "score", "reward");
  const at::Tensor better = chosen(edges.score), worse = rejected(edges.score);
  const at::Tensor difference = better - worse;
  at::Tensor preference = difference;
  if (edges.margin.defined()) {
    require(edges.margin, difference.size(0), "margin", "reward");
    preference = difference - edges.margin;
  }
  at::Tensor per_pair = -at::log_sigmoid(preference);
  if (options.center_rewards_coefficient != 0)
    per_pair = per_pair + options.center_rewards_coefficient * (better + worse).square();
  const auto pairs = static_cast<double>(std::max<int64_t>(totals.groups, 1));
  return {.loss = weighted(per_pair, edges.pair_weight, "pair_weight", "reward").sum() / pairs,
          // RewardBench counts a tie half: its figure is accuracy + ties / 2.
          .metrics = {{"ties", mean_of(difference.eq(0).to(difference.dtype()))},
                      {"accuracy", mean_of(difference.gt(0).to(difference.dtype()))},
                      {"margin", mean_of(difference)},  // without the data's margin, as TRL reports it
                      {"min_reward", min_of(edges.score)},
                      {"mean_reward", mean_of(edges.score)},
                      {"max_reward", max_of(edges.score)}}};
}

}  // namespace fpdist::loss
