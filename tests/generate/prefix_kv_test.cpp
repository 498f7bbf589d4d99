// PrefixKV: how many keys layers keep, which, and completions behind them.
#include "src/generate/prefix_kv.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/generate/generate.hpp"
#include "src/core/index.hpp"
#include "src/generate/admission.hpp"
#include "src/generate/keys.hpp"
#include "src/generate/spacing.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::generate {
namespace {

using test::error_of, test::expect_words, test::make_model, test::randomize, test::small_config;
using Tokens = std::vector<int32_t>;
using Importance = std::vector<std::vector<double>>;

/// Layers from flat to peaked.
Importance random_importance(Rng& rng, size_t layers, size_t keys) {
  Importance all;
  for (size_t l = 0; l < layers; ++l) {
    std::vector<double>& layer = all.emplace_back();
    const double peaked = 4 * rng.uniform();
    for (size_t k = 0; k < keys; ++k) layer.push_back(std::exp(peaked * rng.normal()));
  }
  return all;
}

/// The paper's search, step by step: the dropped ones at the threshold where they first are as many as asked.
std::vector<int64_t> searched(const Importance& importance, double budget, int64_t first) {
  const auto keys = static_cast<double>(importance[0].size());
  double low = 0, high = 1;
  std::vector<int64_t> dropped;
  for (int step = 0; step < 64; ++step) {
    const double p = (low + high) / 2;
    dropped.clear();
    int64_t all = 0;
    for (std::vector<double> layer : importance) {
      std::sort(layer.rbegin(), layer.rend());
      const double sum = std::accumulate(layer.begin(), layer.end(), 0.0);
      double share = 0;
      int64_t kept = 0;
      while (share < p * sum && kept < std::ssize(layer)) share += layer[index(kept++)];
      dropped.push_back(std::max<int64_t>(0, std::ssize(layer) - kept - (first + 1)));
      all += dropped.back();
    }
    const double off = static_cast<double>(all) - (1 - budget) * static_cast<double>(importance.size()) * keys;
    if (std::abs(off) < 5) break;
    (off > 0 ? low : high) = p;
  }
  return dropped;
}

TEST(PrefixKv, LayersDropWhatOneThresholdSays) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const Importance importance = random_importance(rng, 1 + rng.below(12), 30 + rng.below(300));
    const double budget = 0.2 + 0.8 * rng.uniform();
    const auto first = static_cast<int64_t>(rng.below(4));
    const std::vector<int64_t> dropped = dropped_by_layer(importance, budget, first);
    const auto layers = std::ssize(importance), keys = std::ssize(importance[0]);
    const int64_t all = std::accumulate(dropped.begin(), dropped.end(), int64_t{0});
    const double asked = (1 - budget) * static_cast<double>(layers * keys);
    ASSERT_LE(asked, static_cast<double>(layers * (keys - first - 1)));
    EXPECT_NEAR(static_cast<double>(all), asked, 0.51);
    const std::vector<int64_t> theirs = searched(importance, budget, first);
    for (size_t l = 0; l < dropped.size(); ++l) {
      EXPECT_NEAR(dropped[l], theirs[l], 5) << l;  // what scaling to the whole budget adds
      const std::vector<int32_t> kept = chosen_keys(importance[l], dropped[l], first);
      EXPECT_EQ(std::ssize(kept), keys - dropped[l]);
      EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
      EXPECT_EQ(kept.back(), keys - 1);
      for (int64_t k = 0; k < first; ++k) EXPECT_EQ(kept[index(k)], k);
      double least = INFINITY, most_gone = 0;
      for (int32_t k = static_cast<int32_t>(first); k + 1 < keys; ++k) {
        const double here = importance[l][index(k)];
        if (std::binary_search(kept.begin(), kept.end(), k))
          least = std::min(least, here);
        else
          most_gone = std::max(most_gone, here);
      }
      EXPECT_GE(least, most_gone);
    }
  }
}

TEST(PrefixKv, ABudgetOfOneDropsNothingAndAFlatLayerKeepsMore) {
  Rng rng(5);
  Importance importance = random_importance(rng, 3, 50);
  EXPECT_EQ(dropped_by_layer(importance, 1, 1), (std::vector<int64_t>{0, 0, 0}));
  importance = {std::vector<double>(100, 1.0), std::vector<double>(100, 1e-3)};
  importance[1][7] = 1;
  const std::vector<int64_t> dropped = dropped_by_layer(importance, 0.5, 1);
  EXPECT_LT(dropped[0], dropped[1]);
  EXPECT_EQ(kept_of_completion(10, 0.5, 25), 10);
  EXPECT_EQ(kept_of_completion(40, 0.5, 25), 25);
  EXPECT_EQ(kept_of_completion(60, 0.5, 25), 30);
}

TEST(PrefixKv, SharesDropTheSameOfAnyPromptAndSpareItsEnds) {
  const std::vector<double> shares{0, 0.25, 0.999, 1};
  EXPECT_EQ(dropped_by_shares(shares, 100, 1), (std::vector<int64_t>{0, 25, 98, 98}));
  EXPECT_EQ(dropped_by_shares(shares, 2, 3), (std::vector<int64_t>{0, 0, 0, 0}));
}

Tokens drawn(uint64_t seed, size_t count) {
  Rng rng(seed);
  Tokens tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(rng.below(23)));
  return tokens;
}

/// A prompt alone, two that share and one that is another's beginning, and the same twice.
std::vector<Tokens> prompts() {
  std::vector<Tokens> all{drawn(1, 60), drawn(2, 50), drawn(2, 30), drawn(3, 20), drawn(3, 20)};
  all[1].push_back(3);
  all.push_back(drawn(2, 30));
  for (const int32_t token : drawn(4, 25)) all.back().push_back(token);
  return all;
}

SamplingOptions options(double budget) {
  return {.num_generations = 2,
          .max_completion_length = 14,
          .temperature = 0,
          .prefix_kv = {.budget = budget, .start_size = 1, .distance = 4}};
}

TEST(PrefixKvGeneration, KeepsTheBudgetAndABudgetOfOneIsNoCompression) {
  auto model = make_model(small_config("qwen3"), at::kFloat);
  randomize(model, 3);
  const auto plain = generate({{&model}}, prompts(), options(1));
  for (const double budget : {1.0, 0.999, 0.6, 0.3}) {
    GenerationReport report;
    const auto all = generate({{&model}}, prompts(), options(budget), 0, &report);
    if (budget < 1) {
      EXPECT_EQ(report.all_keys, 2 * (60 + 21 + 25));  // layers x rows that one prompt has
      EXPECT_NEAR(static_cast<double>(report.kept_keys), budget * static_cast<double>(report.all_keys), 5);
    }
    double difference = 0;
    for (size_t p = 0; p < all.size(); ++p)
      for (size_t i = 0; i < 2; ++i) {
        if (budget == 1) {
          EXPECT_EQ(all[p][i].token, plain[p][i].token);
          EXPECT_EQ(all[p][i].logp, plain[p][i].logp) << "bit for bit";
        }
        EXPECT_EQ(all[p][i].logp[0], plain[p][i].logp[0]) << "the prompt itself sees all of it";
        difference = std::max(difference, std::abs(all[p][i].logp[1] - plain[p][i].logp[1]));
      }
    EXPECT_EQ(difference > 1e-5, budget < 0.9);
  }
}

TEST(PrefixKvGeneration, WhatStaysOfAPromptIsItsOwnAffair) {
  auto model = make_model(small_config("llama"), at::kDouble);
  randomize(model, 4);
  const std::vector<Tokens> all = prompts();
  const auto together = generate({{&model}}, all, options(0.4));
  for (const auto& [seqs, tokens] : {std::pair<int64_t, int64_t>{2, 8192}, {6, 7}, {4, 40}}) {
    SamplingOptions narrow = options(0.4);
    narrow.max_num_seqs = seqs, narrow.max_num_batched_tokens = tokens;
    const auto again = generate({{&model}}, all, narrow);
    for (size_t p = 0; p < all.size(); ++p)
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(again[p][i].token, together[p][i].token) << p;
        for (size_t t = 0; t < 14; ++t) EXPECT_NEAR(again[p][i].logp[t], together[p][i].logp[t], 2e-6) << p << " " << t;
      }
  }
}

/// [n,H] of all tokens, where row j is hidden from rows `end`[j] on.
at::Tensor behind_mask(const model::Transformer& model, const Tokens& tokens, std::vector<int32_t> end) {
  const auto rows = std::ssize(tokens);
  model::KeptKeys kept = model.make_kept_keys(rows);
  kept.row = at::arange(rows, at::kLong);
  const at::Tensor row = at::arange(rows, at::kInt);
  const parallel::RowsHere here{.token = at::tensor(at::ArrayRef<int32_t>(tokens), at::kInt).to(at::kLong),
                                .depth = at::arange(rows, at::kLong),
                                .key = {},
                                .shard_rows = {rows},
                                .mask = {row, row, at::tensor(at::ArrayRef<int32_t>(end), at::kInt)},
                                .calls = {},
                                .exchange = {}};
  return model.extend(here, kept, {});
}

/// A model of one layer, whose kept keys a mask can say: rows behind the prompt see those that stayed, turned by the
/// depths that they had, and of the completion's those that have not become too many.
TEST(PrefixKvGeneration, KeysThatStayKeepTheirDepths) {
  auto config = small_config("llama");
  config.layers.resize(1);
  auto model = make_model(config, at::kDouble);
  randomize(model, 6);
  Tokens tokens = drawn(8, 40);
  const Tokens prompt = tokens;
  const std::vector<const Tokens*> alone{&prompt};
  const Wave wave = make_wave(alone, std::vector<Leaf>{{.prompt = 0, .room = 12}});
  const Stages stages{{&model}};
  Keys keys(stages, SamplingOptions{.prefix_kv = {.budget = 0.5, .distance = 3}});
  keys.move_to(wave, {}, {{.prompt = 0, .place = 0, .depth = 0, .rows = 40}});
  QueryRows rows;
  for (int32_t i = 0; i < 40; ++i) rows.add(i, prompt[index(i)], i);
  keys.compute(rows);
  const std::vector<int32_t> kept = keys.by_layer()->places(0);
  EXPECT_EQ(std::count_if(kept.begin(), kept.end(), [](int32_t place) { return place < 40; }), 20);

  constexpr int32_t kNever = 100;
  std::vector<int32_t> end(40, kNever), there;  // of the completion
  for (int32_t row = 0; row < 40; ++row)
    if (!std::binary_search(kept.begin(), kept.end(), row)) end[index(row)] = 40;
  for (int32_t t = 0; t < 12; ++t) {
    const std::vector<GrownLeaf> grown{{.prompt = 0, .place = wave.leaf[0], .rows = t + 1}};
    QueryRows next;
    next.add(wave.leaf[0] + t, 5 + t, 40 + t);
    next.grown = grown;
    const at::Tensor found = keys.compute(next);
    tokens.push_back(5 + t), end.push_back(kNever), there.push_back(40 + t);
    EXPECT_LT((found[0] - behind_mask(model, tokens, end)[40 + t]).abs().max().item<double>(), 1e-12) << t;
    if (std::ssize(there) <= std::max(3, (t + 1) / 2)) continue;
    const auto goes = there.end() - 4;  // three before the last
    end[index(*goes)] = 40 + t + 1;
    there.erase(goes);
  }
  EXPECT_EQ(there, (std::vector<int32_t>{44, 46, 48, 49, 50, 51}));
}

/// How many left for others' rows, where the first completions end early and the others do not.
int64_t leaving(double budget) {
  SamplingOptions few = options(budget);
  few.max_completion_length = 100;
  std::vector<Tokens> all_prompts;
  std::vector<const Tokens*> pointers;
  for (int32_t p = 0; p < 30; ++p) all_prompts.push_back({p, 1, 2});
  std::vector<Decoding> all(60);
  for (size_t i = 0; i < all.size(); ++i) all[i].prompt = i / 2;
  for (const Tokens& prompt : all_prompts) pointers.push_back(&prompt);
  Admission admission(pointers, all, few, 2 * places_alone(all_prompts[0], few));
  int64_t left = 0;
  for (size_t done = 0; done < all.size();) {
    if (admission.wants_change()) left += admission.change();
    for (size_t i = 0; i < all.size(); ++i) {
      if (!all[i].is_in_flight()) continue;
      all[i].completion.token.push_back(0);
      if (all[i].tokens() < (i < 30 ? 3 : 100)) continue;
      all[i].standing = Decoding::Standing::kDone;
      ++done;
    }
  }
  return left;
}

/// Who leaves is computed again with all keys, which is not what it has seen.
TEST(PrefixKvGeneration, NobodyLeavesForOthersRows) {
  EXPECT_GT(leaving(1), 0);
  EXPECT_EQ(leaving(0.5), 0);
}

TEST(PrefixKvGeneration, RefusesWhatMakesNoSense) {
  auto model = make_model(small_config("llama"), at::kFloat);
  const auto refusal = [&](const SamplingOptions& wrong) {
    return error_of<ConfigError>([&] { generate({{&model}}, prompts(), wrong); });
  };
  expect_words(refusal(options(0)), {"eval.kv_budget is 0", "above 0"});
  SamplingOptions wrong = options(0.5);
  wrong.prefix_kv.distance = 0;
  expect_words(refusal(wrong), {"eval.kv_distance is 0"});
  wrong = options(0.5);
  wrong.prefix_kv.start_size = -1;
  expect_words(refusal(wrong), {"eval.kv_start_size is -1"});
  wrong = options(0.5);
  wrong.flex_prefill.gamma = 0.9;
  expect_words(refusal(wrong), {"eval.kv_budget 0.5 and flex_prefill.gamma 0.9", "keep one"});
}

}  // namespace
}  // namespace fpdist::generate
