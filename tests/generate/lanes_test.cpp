// A pipeline's stages generate side by side: what each does while others compute, and that no token depends on it.
#include "src/generate/lanes.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/rng.hpp"
#include "src/comm/forwarding_communicator.hpp"
#include "src/comm/work.hpp"
#include "src/core/index.hpp"
#include "tests/model/small_model.hpp"

namespace fpdist::generate {
namespace {

/// Writes down what is begun (s: sent, r: to be received) and what is waited for (S, R).
class WrittenAxis final : public comm::ForwardingCommunicator {
 public:
  WrittenAxis(std::shared_ptr<comm::Communicator> axis, std::string& written)
      : ForwardingCommunicator(std::move(axis)), written_(written) {}

  void send(const at::Tensor& tensor, int peer) override { ForwardingCommunicator::send(tensor, peer), kind_ = 's'; }
  void receive(at::Tensor& tensor, int peer) override { ForwardingCommunicator::receive(tensor, peer), kind_ = 'r'; }
  void group_end() override { group_start()->wait(); }
  std::unique_ptr<comm::Work> group_start() override {
    written_ += kind_;
    const char waited = kind_ == 's' ? 'S' : 'R';
    return std::make_unique<comm::ThenWork>(ForwardingCommunicator::group_start(),
                                            [this, waited] { written_ += waited; });
  }

 private:
  std::string& written_;
  char kind_ = ' ';
};

arch::Model config_of(int64_t layers) {
  arch::Model config = arch::model_of_shape(
      "llama",
      {.layers = layers, .hidden = 16, .intermediate = 20, .heads = 4, .kv_heads = 2, .head_dim = 6, .vocab = 23});
  config.initializer_range = 0.3;
  return config;
}

using Prompts = std::vector<std::vector<int32_t>>;
using All = std::vector<std::vector<Completion>>;

/// What each of `stages` ranks finds, and what it wrote.
std::vector<std::pair<All, std::string>> generate_on(int stages, int runs, const Prompts& prompts,
                                                     const SamplingOptions& options) {
  std::vector<std::pair<All, std::string>> found(index(stages));
  comm::run_threads(stages, [&](comm::World& world) {
    const int64_t parts = int64_t{stages} * runs, layers = 8, each = layers / parts;
    const int rank = world.rank();
    auto& [all, written] = found[index(rank)];
    WrittenAxis axis(world.communicator().split("pp", 0, world.rank()), written);
    std::vector<std::unique_ptr<model::Transformer>> held;
    Stages here{.runs = {}, .pp = stages > 1 ? &axis : nullptr};
    for (int64_t run = 0; run < runs; ++run) {
      const int64_t part = run * stages + rank;
      held.push_back(std::make_unique<model::Transformer>(
          config_of(layers),
          model::TransformerOptions{
              .dtype = at::kDouble,
              .trainable = false,
              .layers = {.first = part * each, .count = each, .embedding = part == 0, .head = part + 1 == parts}}));
      held.back()->initialize(5);
      here.runs.push_back(held.back().get());
    }
    all = generate(here, prompts, options);
  });
  return found;
}

void expect_same(const All& here, const All& there) {
  ASSERT_EQ(here.size(), there.size());
  for (size_t p = 0; p < here.size(); ++p)
    for (size_t i = 0; i < here[p].size(); ++i) {
      EXPECT_EQ(here[p][i].token, there[p][i].token) << p << " " << i;
      for (size_t t = 0; t < here[p][i].logp.size(); ++t) EXPECT_NEAR(here[p][i].logp[t], there[p][i].logp[t], 2e-6);
    }
}

TEST(Lanes, TokensAreThoseOfOneRank) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed, 0);
    Prompts prompts(1 + rng.below(9));
    for (auto& prompt : prompts)
      for (uint64_t t = 0, tokens = 1 + rng.below(12); t < tokens; ++t)
        prompt.push_back(static_cast<int32_t>(t < 3 ? t : rng.below(23)));
    SamplingOptions options{
        .num_generations = static_cast<int64_t>(1 + rng.below(3)), .max_completion_length = 7, .seed = seed};
    options.max_num_seqs = static_cast<int64_t>(1 + rng.below(12)), options.max_num_batched_tokens = 9;
    options.stop_token_ids = {4};
    const All alone = generate_on(1, 1, prompts, options)[0].first;
    for (const auto& [stages, runs] : {std::pair{2, 1}, std::pair{4, 1}, std::pair{2, 2}})
      for (const auto& [all, written] : generate_on(stages, runs, prompts, options)) expect_same(all, alone);
  }
}

TEST(Lanes, AStageComputesWhileOthersDo) {
  const Prompts prompts{{1, 2, 3}, {1, 2, 4}, {5}, {6, 7}};
  const SamplingOptions options{.num_generations = 2, .max_completion_length = 3, .seed = 3};
  // A lane's rows go on, its tokens are awaited; so does the next lane, before anybody waits.
  EXPECT_EQ(generate_on(2, 1, prompts, options)[0].second.substr(0, 12), "srsrSRsrSRsr");
  EXPECT_EQ(generate_on(4, 1, prompts, options)[0].second.substr(0, 10), "srsrsrsrSR");
  // One prompt is one lane.
  EXPECT_EQ(generate_on(2, 1, {{1, 2, 3}}, options)[0].second.substr(0, 6), "srSRsr");
}

TEST(Lanes, AreAsManyAsThereIsRoomFor) {
  comm::run_threads(4, [](comm::World& world) {
    model::Transformer some = test::make_model(config_of(1), at::kFloat, Head::kLanguageModel, false);
    const Stages pipeline{.runs = {&some}, .pp = &world.communicator()}, alone{.runs = {&some}},
        interleaved{.runs = {&some, &some}, .pp = &world.communicator()};
    const Room room{.rows = 100, .most_needed = 10};
    EXPECT_EQ(lanes_of(pipeline, 9, {}, room), 4);
    EXPECT_EQ(lanes_of(pipeline, 3, {}, room), 3);
    EXPECT_EQ(lanes_of(pipeline, 9, {.max_num_seqs = 2}, room), 2);
    EXPECT_EQ(lanes_of(pipeline, 9, {}, {.rows = 39, .most_needed = 10}), 3);
    EXPECT_EQ(lanes_of(pipeline, 0, {}, {.rows = 39}), 1);
    EXPECT_EQ(lanes_of(alone, 9, {}, room), 1);
    EXPECT_EQ(lanes_of(interleaved, 9, {}, room), 1);
    SamplingOptions kept;
    kept.prefix_kv.budget = 0.5;
    EXPECT_EQ(lanes_of(pipeline, 9, kept, room), 1);
  });
}

}  // namespace
}  // namespace fpdist::generate
