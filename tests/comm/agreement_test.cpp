#include "src/comm/agreement.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "src/comm/gather_parts.hpp"
#include "tests/support/ranks/run_ranks.hpp"

namespace fpdist::comm {
namespace {

TEST(GatherParts, EveryRankGetsAllPartsWhateverTheirLengths) {
  test::run_ranks([](World& world) {
    const at::Tensor mine = at::full({world.rank() % 3}, world.rank(), at::kLong);
    const GatheredParts parts = gather_parts(mine, world.communicator());
    std::vector<at::Tensor> wanted;
    for (int rank = 0; rank < world.size(); ++rank) {
      wanted.push_back(at::full({rank % 3}, rank, at::kLong));
      EXPECT_EQ(parts.counts.at(static_cast<size_t>(rank)), rank % 3);
    }
    EXPECT_TRUE(at::equal(parts.all, at::cat(wanted)));
    const std::vector<std::string> texts =
        gather_texts(std::string(static_cast<size_t>(world.rank()), 'x'), world.communicator());
    for (size_t rank = 0; rank < texts.size(); ++rank) EXPECT_EQ(texts[rank], std::string(rank, 'x'));
  });
}

TEST(Agreement, OfRanksThatHoldTheSameIsOneSmallExchange) {
  test::run_ranks([](World& world) {
    const std::vector<Fact> facts{{"seed", "0"}, {"long", std::string(10000, 'x')}};
    const int64_t before = world.communicator().traffic().bytes;
    EXPECT_TRUE(find_differences(facts, world.communicator()).empty());
    EXPECT_EQ(world.communicator().traffic().bytes - before, 16 * (world.size() - 1));
  });
}

TEST(Agreement, EveryRankHearsWhatDiffersAndWhoHoldsWhat) {
  test::run_ranks([](World& world) {
    const int rank = world.rank(), ranks = world.size();
    std::vector<Fact> facts{{"same", "1"}, {"own", rank == 1 ? "b" : "a"}};
    if (rank == ranks - 1) facts.push_back({"more", "x"});
    const auto differences = find_differences(facts, world.communicator());
    if (ranks == 1) {
      EXPECT_TRUE(differences.empty());
      return;
    }
    ASSERT_EQ(differences.size(), 2U);
    EXPECT_EQ(differences[0].name, "own");
    ASSERT_EQ(differences[0].held.size(), 2U);
    EXPECT_EQ(differences[0].held[0].first, "a");
    EXPECT_EQ(differences[0].held[1].first, "b");
    EXPECT_EQ(differences[0].held[1].second, std::vector<int>{1});
    EXPECT_EQ(differences[1].name, "more");
    EXPECT_EQ(differences[1].held[0].first, "nothing");
    EXPECT_EQ(differences[1].held[1].second, std::vector<int>{ranks - 1});
  });
}

TEST(Agreement, ToLackAFactIsAnotherThingThanToHoldTheWord) {
  test::run_ranks([](World& world) {
    std::vector<Fact> facts;
    if (world.rank() == 0) facts.push_back({"fact", "nothing"});
    EXPECT_EQ(find_differences(facts, world.communicator()).size(), world.size() > 1 ? 1U : 0U);
  });
}

TEST(Agreement, IsSaidInALineEachOfManyTheFirst) {
  const std::vector<Difference> one{{"train.seed", {{"0", {0, 1, 2, 5}}, {"1", {3}}, {"2", {4, 6}}}}};
  EXPECT_EQ(to_text(one), "train.seed: 0 on ranks 0-2 and 5, 1 on rank 3, 2 on ranks 4 and 6");
  EXPECT_EQ(ranks_text(std::vector<int>{0, 2, 4, 5}), "ranks 0, 2 and 4-5");
  std::vector<Difference> many(11, {"key", {{std::string(300, 'v'), {0}}, {"w", {1}}}});
  const std::string said = to_text(many);
  EXPECT_NE(said.find("\nand 3 more"), std::string::npos) << said;
  EXPECT_NE(said.find("vvv ... on rank 0, w on rank 1"), std::string::npos) << said;
  EXPECT_LT(said.size(), 1200U);
}

}  // namespace
}  // namespace fpdist::comm
