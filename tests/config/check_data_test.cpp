#include "src/config/check_data.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::config {
namespace {

using test::expect_words;

/// As if read from two files of rows.
data::Dataset dataset_of(std::vector<data::Group> groups) {
  data::Dataset dataset;
  dataset.file = {"a.jsonl", "b.jsonl"};
  for (size_t g = 0; g < groups.size(); ++g) {
    const bool is_second = g >= groups.size() / 2;
    dataset.place.push_back(
        {.file = is_second, .line = static_cast<int64_t>(is_second ? g - groups.size() / 2 : g) + 1});
    for (const data::Sample& sample : groups[g].sample)
      for (const int32_t id : sample.token) dataset.max_token_id = std::max(dataset.max_token_id, id);
  }
  dataset.group = std::move(groups);
  return dataset;
}

class Elsewhere final : public data::GroupSource {
 public:
  explicit Elsewhere(std::vector<data::Group> groups) : group_(std::move(groups)) {}
  data::Group group(int64_t id) const override { return group_.at(static_cast<size_t>(id)); }

 private:
  std::vector<data::Group> group_;
};

/// The same data set, its groups not in memory.
data::Dataset elsewhere(data::Dataset dataset) {
  dataset.source = std::make_shared<Elsewhere>(std::exchange(dataset.group, {}));
  return dataset;
}

data::Sample sample_of(size_t shared, size_t own, int32_t token) {
  data::Sample sample;
  sample.token.assign(shared, 1);
  sample.token.insert(sample.token.end(), own, token);
  sample.target = sample.token;
  return sample;
}

data::Group pair_of(size_t shared, size_t chosen, size_t rejected) {
  return {.id = 0, .sample = {sample_of(shared, chosen, 2), sample_of(shared, rejected, 3)}, .margin = {}};
}

Settled job_of(Method method, const std::function<void(Config&)>& change = {}, int ranks = 1) {
  Config config;
  config.method = method;
  config.model.preset = "tiny";
  config.data.path = {"unused"};
  if (change) change(config);
  return settle(config, ranks);
}

template <typename ErrorType = ConfigError>
std::string refusal_of_packs(const data::Dataset& dataset, const Settled& job) {
  return test::refusal<ErrorType>([&] { check_packs(dataset, job); });
}

TEST(CheckData, TokensOutsideTheVocabularyAreSaidWithTheRow) {
  std::vector<data::Group> groups = {pair_of(4, 1, 2), pair_of(4, 1, 2), pair_of(4, 1, 2), pair_of(4, 1, 2)};
  groups[3].sample[1].token.back() = 400;
  groups[2].sample[0].token.back() = 320;
  const arch::Model model = arch::preset_config("tiny");
  EXPECT_EQ(
      test::refusal<DataError>([&] { check_tokens(dataset_of(groups), model); }),
      "b.jsonl:1: the row holds token id 320, the model's vocabulary has 320 tokens; 2 rows hold such ids, 400 the "
      "largest: use the tokenizer that the model was made with");
  groups[3].sample[1].token.back() = groups[2].sample[0].token.back() = 319;
  check_tokens(dataset_of(groups), model);
}

TEST(CheckData, SamplesBeyondTheModelsPositionsAreSaidWithTheRow) {
  arch::Model model = arch::preset_config("tiny");
  model.max_position_embeddings = 50;
  const data::Dataset dataset =
      dataset_of({pair_of(40, 1, 2), pair_of(40, 11, 12), pair_of(40, 1, 2), pair_of(40, 60, 2)});
  expect_words(test::error_of<DataError>([&] { check_tokens(dataset, model); }),
               {"a.jsonl:2: a sample of 52 tokens, the model has positions for 50",
                "2 rows have longer ones, 100 tokens", "data.max_length: 50"});
  for (arch::Layer& layer : model.layers) layer.attention.rope = {.type = arch::RopeConfig::Type::kLinear, .factor = 2};
  check_tokens(dataset, model);
  check_tokens(elsewhere(dataset), model);
  model.max_position_embeddings = 49;
  expect_words(test::error_of<DataError>([&] { check_tokens(elsewhere(dataset), model); }), {"b.jsonl:2: a sample of"});
  expect_words(test::error_of<DataError>([&] { check_tokens(dataset, model); }), {"b.jsonl:2", "positions for 98"});
}

TEST(CheckData, ARowThatNoPackHoldsIsSaidWithWhatWouldHoldAll) {
  const data::Dataset dataset =
      dataset_of({pair_of(40, 1, 2), pair_of(700, 300, 310), pair_of(40, 1, 2), pair_of(900, 300, 300)});
  const auto with = [](int64_t max_tokens, bool share = true) {
    return [=](Config& config) { config.pack.max_tokens = max_tokens, config.pack.share_prefix = share; };
  };
  EXPECT_EQ(refusal_of_packs(dataset, job_of(Method::kDpo, with(1024))),
            "a.jsonl:2: the group needs 1310 rows in one pack, pack.max_tokens is 1024; of 4 groups 2 do not fit: "
            "pack.max_tokens: 1500 holds all, or leave them out");
  EXPECT_EQ(refusal_of_packs(dataset, job_of(Method::kDpo, with(1500))), "accepted");
  expect_words(refusal_of_packs(dataset, job_of(Method::kDpo, with(1499))), {"b.jsonl:2: the group needs 1500"});
  expect_words(refusal_of_packs(dataset, job_of(Method::kDpo, with(1500, false))),
               {"a.jsonl:2: the group needs 2010", "pack.max_tokens: 2400"});
  // Samples that may be torn apart need no more than the longest.
  EXPECT_EQ(refusal_of_packs(dataset, job_of(Method::kGrpo, with(1200))), "accepted");
  expect_words(refusal_of_packs(dataset, job_of(Method::kGrpo, with(1199))), {"b.jsonl:2: the group needs 1200"});
}

TEST(CheckData, WhatIsEvaluatedOnIsPackedInTheOrderOfTheData) {
  const data::Dataset dataset = dataset_of({pair_of(40, 1, 2), pair_of(40, 1, 2), pair_of(40, 1, 2)});
  const auto refusal = [&](int64_t max_tokens, int64_t max_in_flight) {
    const Settled job = job_of(
        Method::kDpo,
        [=](Config& config) {
          config.pack.max_tokens = max_tokens, config.pack.max_in_flight = max_in_flight, config.parallel.pp = 2;
          config.train.groups_per_step = 2;
        },
        2);
    return test::refusal<ConfigError>([&] { check_evaluation_packs(dataset, job); });
  };
  EXPECT_EQ(refusal(1024, 0), "accepted");
  expect_words(refusal(30, 0), {"a.jsonl:1: the group needs 43 rows in one pack"});
  expect_words(refusal(1024, 5), {"pack.max_in_flight is 5: no packs of evaluation batch 1 (a.jsonl:1 and 1 more)"});
}

/// Whether every step of the run has a plan.
bool runs_through(const data::Dataset& dataset, const Settled& job) {
  const Config& config = job.config;
  const data::Loader loader = data::make_loader(dataset, config.data, config.train.groups_per_step, config.train.seed);
  for (int64_t step = 0; step < config.train.max_steps; ++step) {
    const auto groups = data::pick_groups(dataset, loader.step(step));
    const std::string said = test::refusal<ConfigError>([&] {
      plan::make_step_plan(groups, loss::spec_of(config.method, config.loss).atomic(), config.parallel, job.costs,
                           config.pack);
    });
    if (said != "accepted") return false;
  }
  return true;
}

TEST(CheckData, WhatIsAcceptedRunsThroughAndWhatIsAdvisedIsTheSmallestChange) {
  int accepted = 0, refused_for_rows = 0, refused_in_flight = 0;
  for (uint64_t seed = 0; seed < 80; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 0xc4);
    const Method method = rng.below(2) ? Method::kDpo : Method::kGrpo;
    const data::Dataset dataset = dataset_of(test::random_groups(method, static_cast<int>(6 + rng.below(10)), seed));
    const int pp = static_cast<int>(1 + rng.below(4)), dp = static_cast<int>(1 + rng.below(2));
    plan::PackOptions pack;
    pack.max_tokens = 15 + static_cast<int64_t>(rng.below(50)), pack.slices = static_cast<int>(rng.below(3));
    pack.max_in_flight = static_cast<int64_t>(rng.below(3) * rng.below(100));
    plan::Schedule schedule = rng.below(2) ? plan::Schedule::k1F1B : plan::Schedule::kZeroBubble;
    if (pp == 2 && rng.below(2)) schedule = plan::Schedule::kInterleaved;  // the model has four layers
    const auto groups = static_cast<int64_t>(3 + rng.below(4));
    const auto configure = [&](Config& config) {
      config.parallel.pp = pp, config.parallel.schedule = schedule;
      config.parallel.virtual_stages = schedule == plan::Schedule::kInterleaved ? 2 : 1;
      config.pack = pack;
      config.train.groups_per_step = groups, config.train.max_steps = 6;  // every group has its turn
    };
    Settled job = job_of(method, configure, pp * dp);
    std::string said = refusal_of_packs(dataset, job);
    EXPECT_EQ(refusal_of_packs(elsewhere(dataset), job), said);
    EXPECT_EQ(said == "accepted", runs_through(dataset, job)) << said;
    accepted += said == "accepted";
    for (int turn = 0; turn < 2 && said != "accepted"; ++turn) {  // first the packs, then the rows in flight
      const bool is_rows = said.find("pack.max_in_flight is") == std::string::npos;
      (is_rows ? refused_for_rows : refused_in_flight)++;
      const std::string words = is_rows ? "pack.max_tokens: " : "rows in flight: pack.max_in_flight: ";
      const size_t at = said.find(words);
      ASSERT_NE(at, std::string::npos) << said;
      int64_t& key = is_rows ? job.config.pack.max_tokens : job.config.pack.max_in_flight;
      key = std::stoll(said.substr(at + words.size()));
      --key;
      EXPECT_NE(refusal_of_packs(dataset, job), "accepted") << "less would do: " << said;
      ++key;
      const std::string before = std::exchange(said, refusal_of_packs(dataset, job));
      EXPECT_TRUE(said == "accepted" || is_rows) << before << "\n" << said;
    }
    EXPECT_EQ(said, "accepted");
    EXPECT_TRUE(runs_through(dataset, job));
  }
  EXPECT_GT(std::min({accepted, refused_for_rows, refused_in_flight}), 9);
}

}  // namespace
}  // namespace fpdist::config
