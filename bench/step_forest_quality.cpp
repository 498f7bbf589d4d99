// Plans of whole steps as the trainer makes them: random groups that share prefixes, with tokens, through
// make_step_plan. One table: how even the replicas are, what sharing is kept, and the step over its ideal. By the
// planner's costs (the ratios of Llama-3-8B); nothing is run.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <numbers>
#include <string>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/core/clock.hpp"
#include "src/plan/costs/unit_cost.hpp"

namespace {

using namespace fpdist;

/// Log-normal, by Box and Muller.
int64_t length(Rng& rng, double median, double sigma) {
  const auto uniform = [&] { return (static_cast<double>(rng.below(1 << 20)) + 1) / (1 << 20); };
  const double gauss = std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform());
  return std::max<int64_t>(1, std::llround(median * std::exp(sigma * gauss)));
}

class Steps {
 public:
  explicit Steps(uint64_t seed) : rng_(seed, 31) {}

  /// `system` tokens above everything, then for every `questions` groups a prompt, then completions.
  std::vector<data::Group> make(int groups, int samples, int64_t system, double prompt, double completion,
                                int questions = 1) {
    std::vector<data::Group> all;
    const std::vector<int32_t> above = tokens(system);
    std::vector<int32_t> prompt_tokens;
    for (int g = 0; g < groups; ++g) {
      if (g % questions == 0) {
        prompt_tokens = above;
        append(prompt_tokens, tokens(length(rng_, prompt, 0.6)));
      }
      data::Group& group = all.emplace_back();
      group.id = g;
      for (int s = 0; s < samples; ++s) {
        data::Sample& sample = group.sample.emplace_back();
        sample.token = prompt_tokens;
        sample.target.assign(prompt_tokens.size(), data::kIgnore);
        const std::vector<int32_t> answer = tokens(length(rng_, completion, 0.6));
        append(sample.token, answer), append(sample.target, answer);
      }
    }
    return all;
  }

 private:
  std::vector<int32_t> tokens(int64_t count) {
    std::vector<int32_t> run(static_cast<size_t>(count));
    for (int32_t& token : run) token = next_++;
    return run;
  }
  static void append(std::vector<int32_t>& to, const std::vector<int32_t>& more) {
    to.insert(to.end(), more.begin(), more.end());
  }
  Rng rng_;
  int32_t next_ = 0;
};

struct Kind {
  std::string name;
  plan::Atomic atomic;
  int64_t max_tokens;
  std::vector<data::Group> groups;
};

std::vector<Kind> kinds(uint64_t seed) {
  Steps steps(seed);
  return {{"pairs, short", plan::Atomic::kLines, 8192, steps.make(64, 2, 0, 200, 150)},
          {"pairs, system prompt", plan::Atomic::kLines, 8192, steps.make(64, 2, 1500, 200, 300)},
          {"rollouts x 8", plan::Atomic::kSamples, 16384, steps.make(32, 8, 0, 800, 800)},
          {"rollouts, long prompt", plan::Atomic::kSamples, 32768, steps.make(16, 8, 0, 6000, 500)},
          {"rollouts, system prompt", plan::Atomic::kSamples, 16384, steps.make(24, 4, 3000, 300, 500)},
          {"questions asked twice", plan::Atomic::kLines, 8192, steps.make(64, 2, 500, 600, 300, 2)},
          {"few large rollouts", plan::Atomic::kSamples, 8192, steps.make(6, 8, 0, 1000, 900)},
          {"nothing shared", plan::Atomic::kSamples, 8192, steps.make(256, 1, 0, 300, 300)}};
}

struct Row {
  double over_ideal = 0, imbalance = 0, sharing = 0, ms = 0, packs = 0;
};

int64_t work_of(const plan::StageCosts& costs, const plan::PackPlan& pack, int64_t overhead) {
  return plan::total_work(costs, {pack.rows + overhead, pack.pairs, pack.scores});
}

Row measure(const Kind& kind, int dp) {
  const plan::StageCosts costs;
  plan::ParallelOptions parallel;
  parallel.dp = dp;
  parallel.layers = {costs.layers};
  plan::PackOptions options;
  options.max_tokens = kind.max_tokens;
  const auto begin = Clock::now();
  const plan::StepPlan plan = make_step_plan(kind.groups, kind.atomic, parallel, costs, options);
  const double took_ms = 1e3 * seconds_since(begin);
  parallel.dp = 1, options.max_tokens = 1 << 30;
  const plan::StepPlan whole = make_step_plan(kind.groups, kind.atomic, parallel, costs, options);
  int64_t ideal = 0, most = 0, sum = 0, packs = 0;
  for (const plan::PackPlan& pack : whole.replica[0]) ideal += work_of(costs, pack, 0);
  for (const auto& replica : plan.replica) {
    int64_t load = 0;
    for (const plan::PackPlan& pack : replica) load += work_of(costs, pack, costs.overhead_rows), ++packs;
    most = std::max(most, load), sum += load;
  }
  const auto ratio = [](int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); };
  return {ratio(most * dp, ideal), ratio(most * dp, sum), plan.totals.sharing_ratio(), took_ms,
          static_cast<double>(packs)};
}

}  // namespace

int main() {
  constexpr uint64_t kSeeds = 8;
  std::cout << "Means over " << kSeeds << " seeds; worst in brackets.\n"
            << "| step | dp | step / ideal | replicas max/mean | logical / computed | packs | ms |\n"
            << "|---|---|---|---|---|---|---|\n"
            << std::fixed;
  const std::vector<Kind> first = kinds(0);
  for (size_t k = 0; k < first.size(); ++k)
    for (const int dp : {1, 2, 4, 8}) {
      Row mean, worst;
      for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        const Row row = measure(kinds(seed)[k], dp);
        mean.over_ideal += row.over_ideal / kSeeds, mean.imbalance += row.imbalance / kSeeds;
        mean.sharing += row.sharing / kSeeds, mean.ms += row.ms / kSeeds, mean.packs += row.packs / kSeeds;
        worst.over_ideal = std::max(worst.over_ideal, row.over_ideal);
        worst.imbalance = std::max(worst.imbalance, row.imbalance);
      }
      std::cout << "| " << first[k].name << " | " << dp << " | " << std::setprecision(4) << mean.over_ideal << " ("
                << worst.over_ideal << ") | " << mean.imbalance << " (" << worst.imbalance << ") | "
                << std::setprecision(3) << mean.sharing << " | " << std::setprecision(1) << mean.packs << " | "
                << mean.ms << " |\n";
    }
}
