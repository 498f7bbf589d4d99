#include <gtest/gtest.h>

#include <mutex>
#include <vector>

#include "fpdist/trainer/trainer.hpp"
#include "tests/support/random/random_groups.hpp"

namespace fpdist::trainer {
namespace {

Config config_for(Method method) {
  Config config;
  config.method = method;
  config.model.preset = "tiny";
  config.data.path = {"unused"};
  return config;
}

bool same(const data::Sample& a, const data::Sample& b) {
  return a.token == b.token && a.target == b.target && a.prompt_length == b.prompt_length && a.old_logp == b.old_logp &&
         a.ref_logp == b.ref_logp && a.reward == b.reward && a.advantage == b.advantage && a.truncated == b.truncated &&
         a.weight == b.weight;
}

void expect_same(const std::vector<data::Group>& got, const std::vector<data::Group>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t g = 0; g < wanted.size(); ++g) {
    EXPECT_EQ(got[g].id, static_cast<int64_t>(g));
    EXPECT_EQ(got[g].margin, wanted[g].margin);
    EXPECT_EQ(got[g].weight, wanted[g].weight);
    EXPECT_EQ(got[g].prefix_context, wanted[g].prefix_context);
    ASSERT_EQ(got[g].sample.size(), wanted[g].sample.size());
    for (size_t s = 0; s < wanted[g].sample.size(); ++s)
      EXPECT_TRUE(same(got[g].sample[s], wanted[g].sample[s])) << g << "." << s;
  }
}

/// What rank `rank` of `ranks` made; the last rank makes nothing when there are more than two.
std::vector<data::Group> groups_of(Method method, int rank, int ranks) {
  if (ranks > 2 && rank == ranks - 1) return {};
  auto groups = test::random_groups(method, 2 + rank, 40 + static_cast<uint64_t>(rank));
  groups[0].sample[0].advantage = -0.5 + rank, groups[0].weight = 0.5 * rank;
  groups[1].sample[0].weight.assign(groups[1].sample[0].token.size(), 0.25);
  groups[1].sample[0].truncated = rank % 2 == 0;
  groups[1].prefix_context.assign(static_cast<size_t>(1 + rank), 0.5F);
  groups[0].sample[0].ref_logp.assign(groups[0].sample[0].token.size(), -1.25);
  for (data::Group& group : groups) group.id = 7;  // every rank counts as it likes
  return groups;
}

TEST(GatherGroups, EveryRankHasAllRanksGroupsInRankOrder) {
  for (const Method method : {Method::kSft, Method::kReward, Method::kGrpo})
    for (const int ranks : {1, 2, 4}) {
      SCOPED_TRACE(::testing::Message() << ranks << " ranks");
      std::vector<data::Group> wanted;
      for (int rank = 0; rank < ranks; ++rank)
        for (const data::Group& group : groups_of(method, rank, ranks)) wanted.push_back(group);
      std::mutex mutex;
      comm::run_threads(ranks, [&](comm::World& world) {
        NullLog log;
        Trainer trainer(world, config_for(method), log);
        const auto all = trainer.gather_groups(groups_of(method, world.rank(), ranks));
        const std::lock_guard lock(mutex);
        expect_same(all, wanted);
      });
    }
}

TEST(GatherGroups, AStepOnThemIsTheStepOnAllGroupsAtOnce) {
  std::vector<data::Group> all;
  for (int rank = 0; rank < 2; ++rank)
    for (data::Group group : groups_of(Method::kGrpo, rank, 2))
      group.id = static_cast<int64_t>(all.size()), group.sample[0].ref_logp.clear(), all.push_back(group);
  Config config = config_for(Method::kGrpo);
  config.model.dtype = DType::kFloat64;
  const auto loss = [&](bool gathers) {
    double value = 0;
    comm::run_threads(2, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      auto own = groups_of(Method::kGrpo, world.rank(), 2);
      own[0].sample[0].ref_logp.clear();
      const double of_rank = trainer.step(gathers ? trainer.gather_groups(own) : all).values.at("loss");
      if (world.rank() == 0) value = of_rank;
    });
    return value;
  };
  EXPECT_EQ(loss(true), loss(false));
}

TEST(GatherGroups, NoGroupsAnywhereIsAnEmptyStep) {
  comm::run_threads(2, [](comm::World& world) {
    NullLog log;
    const Trainer trainer(world, config_for(Method::kSft), log);
    EXPECT_TRUE(trainer.gather_groups({}).empty());
  });
}

}  // namespace
}  // namespace fpdist::trainer
