#include <cmath>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/loss.hpp"
#include "src/loss/prefix_advantages.hpp"

namespace fpdist::loss {
namespace {

constexpr double kStdOffset = 1e-4;  // TRL's guard against groups whose rewards are all equal
constexpr double kZeroStd = 1e-8;    // torch.isclose(std, 0)

struct Spread {
  double mean = 0, std = 0;
};

/// Mean and standard deviation with n - 1; the deviation of fewer than two values is 0.
Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  if (values.empty()) return spread;
  for (const double value : values) spread.mean += value;
  spread.mean /= static_cast<double>(values.size());
  if (values.size() < 2) return spread;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.std = std::sqrt(squares / static_cast<double>(values.size() - 1));
  return spread;
}

std::vector<double> rewards_of(const data::Group& group) {
  std::vector<double> rewards;
  for (const data::Sample& sample : group.sample) {
    if (!sample.reward) continue;
    check<DataError>(std::isfinite(*sample.reward), "group ", group.id, " has a reward of ", *sample.reward,
                     ": rewards must be finite");
    rewards.push_back(*sample.reward);
  }
  return rewards;
}

}  // namespace

std::map<std::string, double> fill_advantages(std::span<data::Group> groups, const LossOptions& options) {
  std::vector<double> all;
  for (const data::Group& group : groups) {
    const std::vector<double> rewards = rewards_of(group);
    all.insert(all.end(), rewards.begin(), rewards.end());
  }
  if (all.empty()) return {};
  const Spread step = spread_of(all);
  const bool has_prefixes = !options.prefix_advantage.empty();
  const bool is_over_step = (has_prefixes ? options.prefix_advantage : options.scale_rewards) == "batch";
  double without_spread = 0;  // samples
  for (data::Group& group : groups) {
    const std::vector<double> rewards = rewards_of(group);
    const Spread own = spread_of(rewards);
    const double std = is_over_step ? step.std : own.std;
    if (std <= kZeroStd) without_spread += static_cast<double>(rewards.size());
    if (has_prefixes) {
      fill_prefix_advantages(group, is_over_step ? std + kStdOffset : 1.0);
      continue;
    }
    const double scale = options.scale_rewards == "none" ? 1.0 : std + kStdOffset;
    for (data::Sample& sample : group.sample)
      if (sample.reward && !sample.advantage) sample.advantage = (*sample.reward - own.mean) / scale;
  }
  return {{"reward", step.mean},
          {"reward_std", step.std},
          {"frac_reward_zero_std", without_spread / static_cast<double>(all.size())}};
}

}  // namespace fpdist::loss
