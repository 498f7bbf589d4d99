#include "fpdist/plan/step_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "tests/prefix/random_samples.hpp"

namespace fpdist::plan {
namespace {

const StageCosts kCosts{.layers = 1, .per_row = 1000, .forward_pair = 7, .per_edge = 100, .overhead_rows = 5};
const StageCosts kRowsOnly{
    .layers = 1, .per_row = 1, .forward_pair = 0, .backward_pair = 0, .per_edge = 0, .overhead_rows = 0};

ParallelOptions replicas(int dp) {
  ParallelOptions options;
  options.dp = dp;
  return options;
}

int64_t pairs_of(const prefix::TreeLayout& layout) {
  int64_t pairs = 0;
  for (const int32_t depth : layout.depth) pairs += depth + 1;
  return pairs;
}

struct Case {
  std::vector<data::Group> groups;
  Method method;
  int dp;
  PackOptions options;
};

/// Runs `law(case, plan)` over random steps, methods, replica counts and caps.
template <typename Law>
void for_random_plans(Law law) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 77);
    const Method method = rng.below(2) ? Method::kDpo : Method::kGrpo;
    Case one{prefix::random_groups(seed, is_preference(method)), method, static_cast<int>(1 + rng.below(9)), {}};
    one.options.share_prefix = rng.below(3) > 0;
    one.options.max_tokens =
        static_cast<int64_t>((is_preference(method) ? 54 : 27) + rng.below(30));  // just above what fits
    law(one, make_step_plan(one.groups, method, replicas(one.dp), kCosts, one.options));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(StepPlan, EverySampleIsInExactlyOnePackAndPairsStayTogether) {
  for_random_plans([](const Case& one, const StepPlan& plan) {
    ASSERT_EQ(plan.replica.size(), static_cast<size_t>(one.dp));
    std::multiset<std::pair<int32_t, int32_t>> seen, wanted;
    for (size_t g = 0; g < one.groups.size(); ++g)
      for (size_t s = 0; s < one.groups[g].sample.size(); ++s)
        wanted.emplace(static_cast<int32_t>(g), static_cast<int32_t>(s));
    for (const auto& packs : plan.replica) {
      for (const PackPlan& pack : packs) {
        std::map<int32_t, size_t> members_of_group;
        for (const MemberRef& ref : pack.member) seen.emplace(ref.group, ref.index), ++members_of_group[ref.group];
        EXPECT_TRUE(std::is_sorted(pack.member.begin(), pack.member.end(), [](const MemberRef& a, const MemberRef& b) {
          return std::pair(a.group, a.index) < std::pair(b.group, b.index);
        }));
        for (const auto& [group, members] : members_of_group) {
          EXPECT_TRUE(!is_preference(one.method) || members == 2) << "group " << group << " was torn apart";
        }
      }
    }
    EXPECT_EQ(seen, wanted);
  });
}

TEST(StepPlan, PacksAreWhatTheirLayoutsAreAndKeepTheCap) {
  for_random_plans([](const Case& one, const StepPlan& plan) {
    int64_t rows = 0, all_rows = 0;
    for (const auto& packs : plan.replica)
      for (const PackPlan& pack : packs) all_rows += pack.rows;
    for (const auto& packs : plan.replica) {
      for (const PackPlan& pack : packs) {
        const prefix::TreeLayout layout = lay_out(one.groups, pack, one.options.share_prefix);
        ASSERT_EQ(pack.rows, layout.rows());
        ASSERT_EQ(pack.edges, layout.edges());
        ASSERT_EQ(pack.pairs, pairs_of(layout));
        ASSERT_EQ(pack.cost, forward_cost(kCosts).cost(pack.rows, pack.pairs, pack.scores));
        ASSERT_GE(pack.scores, layout.scores());
        ASSERT_LE(pack.scores, pack.edges);
        EXPECT_LE(pack.rows, one.options.max_tokens);
        EXPECT_TRUE(pack.rows > 0 || all_rows == 0) << "a pack without rows";
        rows += pack.rows;
      }
    }
    EXPECT_EQ(plan.totals.tokens_computed, rows);
  });
}

TEST(StepPlan, AScoreThatSamplesShareIsPaidForOnce) {
  // Two rollouts that share a supervised turn of 20 tokens behind a prompt of 10, then go on alone, and a third that is
  // the first one over again.
  data::Group group;
  for (const int32_t tail : {1, 2, 1}) {
    data::Sample sample;
    sample.token.assign(30, 7);
    sample.token.insert(sample.token.end(), 5, tail);
    sample.target = sample.token;
    std::fill(sample.target.begin(), sample.target.begin() + 10, data::kIgnore);
    group.sample.push_back(sample);
  }
  std::vector<data::Group> groups{group};
  const auto pack = [&] { return make_step_plan(groups, Method::kGrpo, replicas(1), kCosts, {}).replica[0].at(0); };
  EXPECT_EQ(pack().edges, 3 * 25);
  EXPECT_EQ(pack().scores, 20 + 2 * 5);
  EXPECT_EQ(pack().scores, lay_out(groups, pack(), true).scores());
  EXPECT_EQ(pack().cost, forward_cost(kCosts).cost(40, pack().pairs, 30));
  // One that does not learn from the shared turn: those who do are counted apart there, never too few.
  std::fill(groups[0].sample[1].target.begin(), groups[0].sample[1].target.begin() + 30, data::kIgnore);
  EXPECT_EQ(pack().edges, 2 * 25 + 5);
  EXPECT_EQ(pack().scores, 2 * 20 + 2 * 5);
  EXPECT_GE(pack().scores, lay_out(groups, pack(), true).scores());
}

TEST(StepPlan, TotalsAreCountedOverTheStep) {
  for_random_plans([](const Case& one, const StepPlan& plan) {
    StepTotals wanted;
    for (const data::Group& group : one.groups) {
      ++wanted.groups;
      for (const data::Sample& sample : group.sample) {
        const int64_t edges = count_edges(sample);
        wanted.edges += edges;
        wanted.samples_with_edges += edges > 0;
        wanted.tokens_logical += sample.length();
        ++wanted.samples;
      }
    }
    EXPECT_EQ(plan.totals.groups, wanted.groups);
    EXPECT_EQ(plan.totals.samples, wanted.samples);
    EXPECT_EQ(plan.totals.edges, wanted.edges);
    EXPECT_EQ(plan.totals.samples_with_edges, wanted.samples_with_edges);
    EXPECT_EQ(plan.totals.tokens_logical, wanted.tokens_logical);
    EXPECT_TRUE(one.options.share_prefix || plan.totals.tokens_computed == wanted.tokens_logical);
  });
}

TEST(StepPlan, TheSameStepHasTheSameHash) {
  for_random_plans([](const Case& one, const StepPlan& plan) {
    EXPECT_EQ(make_step_plan(one.groups, one.method, replicas(one.dp), kCosts, one.options).hash, plan.hash);
  });
}

data::Group group_of(int64_t id, std::vector<int64_t> completions, int64_t prompt) {
  data::Group group;
  group.id = id;
  int32_t next = 1000 * static_cast<int32_t>(id + 1);
  for (const int64_t length : completions) {
    data::Sample& sample = group.sample.emplace_back();
    sample.token.assign(static_cast<size_t>(prompt), static_cast<int32_t>(id));
    sample.target.assign(static_cast<size_t>(prompt), data::kIgnore);
    for (int64_t t = 0; t < length; ++t) sample.token.push_back(next), sample.target.push_back(next++);
  }
  return group;
}

TEST(StepPlan, TheHashSeesATokenThatChangesTheShape) {
  std::vector<data::Group> groups{group_of(0, {5, 5}, 10), group_of(1, {5, 5}, 10)};
  const uint64_t before = make_step_plan(groups, Method::kDpo, replicas(2), kCosts, {}).hash;
  groups[1].sample[1].token[3] = 99;
  EXPECT_NE(make_step_plan(groups, Method::kDpo, replicas(2), kCosts, {}).hash, before);
}

TEST(StepPlan, ASharedPreambleIsCountedOncePerPack) {
  std::vector<data::Group> groups;
  for (int64_t id = 0; id < 16; ++id) {
    groups.push_back(group_of(id, {10, 10}, 5));
    for (data::Sample& sample : groups.back().sample) {
      sample.token.insert(sample.token.begin(), 300, 7);
      sample.target.insert(sample.target.begin(), 300, data::kIgnore);
    }
  }
  const StepPlan plan = make_step_plan(groups, Method::kDpo, replicas(2), kCosts, {});
  for (const auto& packs : plan.replica) {
    ASSERT_EQ(packs.size(), 1u);
    EXPECT_EQ(packs[0].rows, 300 + 8 * 25);
  }
  EXPECT_DOUBLE_EQ(plan.totals.sharing_ratio(), 32.0 * 315 / 1000);
}

TEST(StepPlan, AGroupThatFitsNowhereNamesItselfAndTheCure) {
  const std::vector<data::Group> groups{group_of(41, {10, 10}, 5), group_of(42, {80, 30}, 20)};
  PackOptions options;
  options.max_tokens = 100;
  try {
    make_step_plan(groups, Method::kDpo, replicas(2), kCosts, options);
    FAIL() << "a pair of 130 rows was put into 100";
  } catch (const ConfigError& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("group 42"), std::string::npos) << what;
    EXPECT_NE(what.find("set pack.max_tokens to at least 130"), std::string::npos) << what;
  }
  EXPECT_NO_THROW(make_step_plan(groups, Method::kGrpo, replicas(2), kCosts, options)) << "rollouts may be torn apart";
  options.max_tokens = 99;
  try {
    make_step_plan(groups, Method::kGrpo, replicas(2), kCosts, options);
    FAIL() << "a sample of 100 rows was put into 99";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("at least 100"), std::string::npos) << error.what();
  }
  options.max_tokens = 0;
  EXPECT_THROW(make_step_plan(groups, Method::kGrpo, replicas(2), kCosts, options), ConfigError);
  EXPECT_THROW(make_step_plan(groups, Method::kGrpo, replicas(-1), kCosts, {}), ConfigError);
}

TEST(StepPlan, LargeRolloutGroupsAreTornWhenReplicasWouldWait) {
  const std::vector<data::Group> groups{group_of(0, {400, 400, 400, 400}, 10)};
  const auto packs_in_use = [&](Method method) {
    const StepPlan plan = make_step_plan(groups, method, replicas(4), kCosts, {});
    return std::count_if(plan.replica.begin(), plan.replica.end(), [](const auto& packs) { return !packs.empty(); });
  };
  EXPECT_EQ(packs_in_use(Method::kGrpo), 4);
  EXPECT_EQ(packs_in_use(Method::kSft), 4);
}

TEST(StepPlan, ReplicasEndUpWithinAFewPercent) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed, 3);
    std::vector<data::Group> groups;
    for (int64_t id = 0; id < 64; ++id)
      groups.push_back(group_of(id,
                                {static_cast<int64_t>(50 + rng.below(300)), static_cast<int64_t>(50 + rng.below(300))},
                                static_cast<int64_t>(50 + rng.below(200))));
    PackOptions options;
    options.max_tokens = 2048;
    const StepPlan plan = make_step_plan(groups, Method::kDpo, replicas(8), kCosts, options);
    int64_t most = 0, sum = 0;
    for (const auto& packs : plan.replica) {
      int64_t load = 0;
      for (const PackPlan& pack : packs) load += pack.cost;
      most = std::max(most, load), sum += load;
    }
    EXPECT_LE(static_cast<double>(most) * 8 / static_cast<double>(sum), 1.03);
  }
}

TEST(StepPlan, ASwapMendsWhatLongestFirstGetsWrong) {
  std::vector<data::Group> groups;  // longest first leaves 3+2+2 against 3+2; 3+3 against 2+2+2 is even
  for (const int64_t length : {300, 300, 200, 200, 200})
    groups.push_back(group_of(static_cast<int64_t>(groups.size()), {length}, 0));
  const StepPlan plan = make_step_plan(groups, Method::kSft, replicas(2), kRowsOnly, {});
  for (const auto& packs : plan.replica) EXPECT_EQ(packs.at(0).cost, 600);
}

TEST(StepPlan, EveryPackGoesThroughThePipelineWhole) {
  const std::vector<data::Group> groups{group_of(0, {60}, 10), group_of(1, {60}, 10)};
  PackOptions options;
  options.max_tokens = 100;
  const StepPlan plan = make_step_plan(groups, Method::kSft, replicas(1), kCosts, options);
  const std::vector<Op> wanted{{OpKind::kForward, 0},      {OpKind::kBackwardInput, 0}, {OpKind::kBackwardWeight, 0},
                               {OpKind::kForward, 1},      {OpKind::kBackwardInput, 1}, {OpKind::kBackwardWeight, 1},
                               {OpKind::kReduceGradients}, {OpKind::kOptimizerStep}};
  EXPECT_EQ(pipeline_ops(plan.pipeline(0)).at(0), wanted);
  const StepPlan idle = make_step_plan({}, Method::kSft, replicas(3), kCosts, {});
  EXPECT_EQ(pipeline_ops(idle.pipeline(2)).at(0),
            (std::vector<Op>{{OpKind::kReduceGradients}, {OpKind::kOptimizerStep}}));
  EXPECT_EQ(idle.totals.tokens_computed, 0);
}

TEST(StepPlan, InterleavingGetsAMultipleOfTheStages) {
  ParallelOptions options = replicas(2);
  options.pp = 4, options.virtual_stages = 2, options.schedule = Schedule::kInterleaved;
  PackOptions pack;
  pack.max_tokens = 100;
  const std::vector<data::Group> groups{group_of(0, {60}, 10), group_of(1, {60}, 10), group_of(2, {90}, 10)};
  StageCosts costs = kCosts;
  costs.layers = 8;
  const StepPlan plan = make_step_plan(groups, Method::kSft, options, costs, pack);
  for (int d = 0; d < 2; ++d) {
    int units = 0;
    for (const int slices : plan.pipeline(d).slices) units += slices;
    EXPECT_EQ(units % 4, 0);
    EXPECT_EQ(validate_ops(plan.pipeline(d), pipeline_ops(plan.pipeline(d))), "");
  }
  options.schedule = Schedule::k1F1B, options.virtual_stages = 1;
  EXPECT_NE(make_step_plan(groups, Method::kSft, options, costs, pack).hash, plan.hash);
}

TEST(StepPlan, PipelinePlansAreWholeAndTheirSlicesFit) {
  for (uint64_t seed = 0; seed < 250; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 78);
    const Method method = rng.below(2) ? Method::kDpo : Method::kGrpo;
    const auto groups = prefix::random_groups(seed, is_preference(method));
    ParallelOptions parallel = replicas(static_cast<int>(1 + rng.below(3)));
    parallel.pp = static_cast<int>(2 + rng.below(3));
    parallel.schedule = static_cast<Schedule>(rng.below(3));
    parallel.virtual_stages = parallel.schedule == Schedule::kInterleaved ? 2 : 1;
    StageCosts costs = kCosts;
    costs.layers = 8, costs.overhead_rows = static_cast<int64_t>(rng.below(40));
    PackOptions options;
    options.share_prefix = rng.below(4) > 0;
    options.slices = static_cast<int>(rng.below(3));
    for (const data::Group& group : groups) {  // the longest group fits, not much more
      int64_t rows = 0;
      for (const data::Sample& sample : group.sample) rows += sample.length();
      options.max_tokens =
          std::max(seed ? rows + static_cast<int64_t>(rng.below(30)) : rows, options.max_tokens % 8192);
    }
    const StepPlan plan = make_step_plan(groups, method, parallel, costs, options);
    EXPECT_EQ(make_step_plan(groups, method, parallel, costs, options).hash, plan.hash);
    std::vector<int> placed;
    for (const data::Group& group : groups) placed.insert(placed.end(), group.sample.size(), 0);
    std::vector<size_t> first{0};
    for (const data::Group& group : groups) first.push_back(first.back() + group.sample.size());
    for (int d = 0; d < parallel.dp; ++d) {
      EXPECT_EQ(validate_ops(plan.pipeline(d), pipeline_ops(plan.pipeline(d))), "");
      for (const PackPlan& pack : plan.replica[static_cast<size_t>(d)]) {
        const prefix::TreeLayout layout = lay_out(groups, pack, options.share_prefix);
        EXPECT_EQ(pack.rows, layout.rows());
        EXPECT_LE(pack.rows, options.max_tokens);
        EXPECT_EQ(pack.slice_end.back(), pack.rows);
        EXPECT_TRUE(std::is_sorted(pack.slice_end.begin(), pack.slice_end.end()));
        for (const MemberRef& member : pack.member)
          ++placed[first[static_cast<size_t>(member.group)] + static_cast<size_t>(member.index)];
        for (const MemberRef& member : pack.member) {  // pairs stay together
          if (!is_preference(method)) continue;
          const auto of_group = std::count_if(pack.member.begin(), pack.member.end(),
                                              [&](const MemberRef& other) { return other.group == member.group; });
          EXPECT_EQ(static_cast<size_t>(of_group), groups[static_cast<size_t>(member.group)].sample.size());
        }
      }
    }
    EXPECT_EQ(std::count(placed.begin(), placed.end(), 1), static_cast<std::ptrdiff_t>(placed.size()));
  }
}

TEST(StepPlan, APipelineSharesWhatIsSharedByAll) {
  std::vector<data::Group> groups;  // a long preamble above 40 pairs; every other question is asked twice
  for (int32_t g = 0; g < 40; ++g) {
    data::Group group;
    group.id = g;
    for (int32_t s = 0; s < 2; ++s) {
      data::Sample sample;
      sample.token.assign(700, 7);
      for (const int32_t token : {100 + g / 2, 300 + s, 301, 302}) sample.token.push_back(token);
      sample.target = sample.token;
      group.sample.push_back(sample);
    }
    groups.push_back(group);
  }
  ParallelOptions parallel = replicas(1);
  parallel.pp = 2, parallel.schedule = Schedule::kZeroBubble;
  StageCosts costs = kCosts;
  costs.layers = 4;
  PackOptions options;
  options.max_tokens = 2048;
  EXPECT_GT(make_step_plan(groups, Method::kDpo, parallel, costs, options).totals.sharing_ratio(), 10.0);
}

TEST(StepPlan, TenThousandSamplesArePlannedInUnderASecond) {
  Rng rng(9);
  std::vector<data::Group> groups;
  for (int64_t id = 0; id < 1250; ++id) {
    std::vector<int64_t> completions(8);
    for (int64_t& length : completions) length = static_cast<int64_t>(20 + rng.below(600));
    groups.push_back(group_of(id, completions, static_cast<int64_t>(50 + rng.below(500))));
  }
  for (const bool share : {true, false}) {
    PackOptions options;
    options.share_prefix = share;
    const auto start = std::chrono::steady_clock::now();
    const StepPlan plan = make_step_plan(groups, Method::kGrpo, replicas(8), kCosts, options);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    RecordProperty(share ? "seconds_shared" : "seconds_unshared", std::to_string(seconds));
    std::cout << "planned 10,000 samples, share_prefix " << share << ": " << seconds << " s, sharing ratio "
              << plan.totals.sharing_ratio() << "\n";
#ifdef NDEBUG
    EXPECT_LT(seconds, 1.0);
#endif
  }
}

TEST(CostTable, CountsFlopsOfADecoder) {
  const ModelShape shape{2, 8, 16, 4, 2, 2, 100};
  const CostTable table = forward_cost(stage_costs(shape));
  EXPECT_EQ(table.per_row, 2 * 2 * (8 * 8 + 8 * 4 + 8 * 4 + 8 * 8 + 3 * 8 * 16));  // q, k, v, out, mlp
  EXPECT_EQ(table.per_pair, 2 * 4 * 4 * 2);
  EXPECT_EQ(table.per_edge, 2 * 8 * 100);
}

}  // namespace
}  // namespace fpdist::plan
