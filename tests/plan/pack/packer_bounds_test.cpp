// The packer against searches that miss nothing: every packing of 3 to 8 samples on a pipeline, and branch and bound
// over replicas and packs for 9 to 20 samples.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/plan/figures/plan_figures.hpp"
#include "src/plan/pack/pipeline_plan.hpp"
#include "src/plan/pack/slicer.hpp"
#include "src/plan/schedule/program.hpp"
#include "tests/plan/pack/branch_and_bound.hpp"
#include "tests/support/plan/planner_case.hpp"

namespace fpdist::plan {
namespace {

using test::BranchAndBound, test::PlannerCase;

/// Groups of 1 to `largest` samples.
LengthTree random_groups(Rng& rng, int samples, int largest) {
  std::string lines;
  for (int left = samples; left > 0;) {
    const int take = std::min(left, static_cast<int>(1 + rng.below(static_cast<uint64_t>(largest))));
    lines += "{\"prefix\": " + std::to_string(50 + rng.below(600)) + ", \"completions\": [";
    for (int i = 0; i < take; ++i) lines += text(i ? "," : "", 50 + rng.below(900));
    lines += "]}\n";
    left -= take;
  }
  return parse_lengths(lines, "tiny");
}

/// Every ordered partition of `samples` into packs, by trying every place for each sample in turn.
void for_every_packing(const std::vector<int32_t>& samples, size_t at, std::vector<std::vector<int32_t>>& packs,
                       const std::function<void()>& visit) {
  if (at == samples.size()) return visit();
  for (size_t i = 0; i < packs.size(); ++i) {
    packs[i].push_back(samples[at]);
    for_every_packing(samples, at + 1, packs, visit);
    packs[i].pop_back();
  }
  for (size_t i = 0; i <= packs.size(); ++i) {
    packs.insert(packs.begin() + static_cast<std::ptrdiff_t>(i), {samples[at]});
    for_every_packing(samples, at + 1, packs, visit);
    packs.erase(packs.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

/// The best step of whole packs on one replica.
int64_t best_of_all(const PlannerCase& one, const std::vector<int64_t>& layers) {
  std::vector<int32_t> samples(one.tree.sample.size());
  std::iota(samples.begin(), samples.end(), 0);
  Slicer slicer(one.tree, one.costs);
  std::map<std::vector<int32_t>, UnitCost> known;
  std::map<size_t, Program> program;
  std::vector<std::vector<int32_t>> packs;
  std::vector<UnitCost> units;
  int64_t best = std::numeric_limits<int64_t>::max();
  for_every_packing(samples, 0, packs, [&] {
    units.clear();
    for (const auto& pack : packs) {
      auto found = known.find(pack);
      if (found == known.end()) found = known.emplace(pack, unit_cost(one.costs, slicer.whole(pack))).first;
      if (found->second.rows > one.options.max_tokens) return;
      units.push_back(found->second);
    }
    auto made = program.find(packs.size());
    if (made == program.end())
      made = program
                 .emplace(packs.size(), Program({one.options.parallel.schedule, one.options.parallel.pp, 1,
                                                 std::vector<int>(packs.size(), 1), 1}))
                 .first;
    best = std::min(best, made->second.makespan(units, layers));
  });
  return best;
}

TEST(PackerBounds, WithinTwoPercentOfEveryPackingThereIs) {
  double worst = 1;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 12);
    PlannerCase one;
    const int samples = seed % 20 == 0 ? 8 : static_cast<int>(3 + rng.below(4));
    one.tree = random_groups(rng, samples, 3);
    one.options.parallel.pp = static_cast<int>(2 + rng.below(3));
    one.options.parallel.schedule = rng.below(2) ? Schedule::k1F1B : Schedule::kZeroBubble;
    one.options.max_tokens = 2000 + static_cast<int64_t>(rng.below(2000));
    one.options.may_slice = false;
    one.options.search_layers = false;
    const PipelinePlan plan = plan_pipeline(one.tree, one.costs, one.options);
    const int64_t best = best_of_all(one, plan.layers);
    ASSERT_GE(plan.step, best) << "cheaper than every packing";
    ASSERT_GE(best, lower_bound_of(one.costs, one.options, plan) * 9 / 10) << "the bound is of other packs, but near";
    worst = std::max(worst, static_cast<double>(plan.step) / static_cast<double>(best));
    EXPECT_LE(plan.step, best + best / 50);
  }
  std::cout << "worst against exhaustive search: " << worst << '\n';
}

TEST(PackerBounds, BranchAndBoundFindsNothingTwoPercentBetter) {
  constexpr int kCases = 80;
  int open = 0, better = 0;
  for (uint64_t seed = 0; seed < kCases; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 13);
    PlannerCase one;
    one.tree = random_groups(rng, static_cast<int>(9 + rng.below(12)), 5);
    one.options.replicas = static_cast<int>(1 + rng.below(4));
    const int64_t rows = one.tree.unique().rows, packs = static_cast<int64_t>(1 + rng.below(3));
    one.options.max_tokens = std::max<int64_t>(1600, rows / one.options.replicas / packs);  // the cap binds
    const PipelinePlan plan = plan_pipeline(one.tree, one.costs, one.options);
    EXPECT_GE(plan.step, lower_bound_of(one.costs, one.options, plan));
    BranchAndBound search(one.tree, one.costs, one.options.replicas, one.options.max_tokens);
    ASSERT_EQ(search.better_than(plan.step + 1, 2000000), BranchAndBound::Answer::kFound) << "the plan is no packing";
    const auto answer = search.better_than(plan.step * 50 / 51, 2000000);
    open += answer == BranchAndBound::Answer::kGaveUp;
    if (answer != BranchAndBound::Answer::kFound) continue;
    ++better;
    EXPECT_NE(search.better_than(plan.step * 25 / 26, 2000000), BranchAndBound::Answer::kFound) << "4 % better";
  }
  std::cout << "more than 2 % better: " << better << " of " << kCases << " cases; not searched to the end: " << open
            << '\n';
  EXPECT_EQ(better, 0);
  EXPECT_EQ(open, 0);
}

}  // namespace
}  // namespace fpdist::plan
