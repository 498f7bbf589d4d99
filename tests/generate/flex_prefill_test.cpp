// FlexPrefill in generation: what a prompt's rows see depends on its own tokens, whoever else is there; all blocks are
// all keys; what was lost is reported.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/generate/generate.hpp"
#include "src/core/index.hpp"
#include "src/generate/sharing.hpp"
#include "src/generate/windows.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::generate {
namespace {

using test::error_of, test::expect_words, test::make_model, test::randomize, test::small_config;
using Tokens = std::vector<int32_t>;

Tokens drawn(uint64_t seed, size_t count) {
  Rng rng(seed);
  Tokens tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(rng.below(23)));
  return tokens;
}

/// The first `shared` of `tokens` and then others.
Tokens branch(const Tokens& tokens, size_t shared, uint64_t seed, size_t more) {
  Tokens all(tokens.begin(), tokens.begin() + static_cast<int64_t>(shared));
  const Tokens own = drawn(seed, more);
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

/// Windows of 16: prompts that part inside windows, between them, that end in others or are the same, and short ones.
std::vector<Tokens> prompts() {
  const Tokens trunk = drawn(1, 108);  // its last window chooses as well
  return {trunk,
          branch(trunk, 48, 2, 20),  // at the end of a window
          branch(trunk, 71, 3, 30),  // inside one
          branch(trunk, 75, 4, 9),
          branch(trunk, 64, 5, 0),  // another's first windows, whole
          trunk,
          branch(trunk, 20, 6, 4),  // short
          branch(trunk, 9, 7, 40)};
}

SamplingOptions options() {
  return {.num_generations = 2,
          .max_completion_length = 5,
          .temperature = 0,
          .flex_prefill = {.gamma = 0.5,
                           .tau = 0.1,
                           .min_budget = 4,
                           .block_size = 4,
                           .window = 16,
                           .min_tokens = 32,
                           .check_prompts = 0}};
}

model::Transformer some_model(at::ScalarType dtype = at::kDouble) {
  auto model = make_model(small_config("qwen2"), dtype);
  randomize(model, 4);
  return model;
}

void expect_same(const Completion& one, const Completion& other, double within) {
  EXPECT_EQ(one.token, other.token);
  ASSERT_EQ(one.logp.size(), other.logp.size());
  for (size_t t = 0; t < one.logp.size(); ++t) EXPECT_NEAR(one.logp[t], other.logp[t], within) << t;
}

double greatest_difference(const std::vector<std::vector<Completion>>& a, const std::vector<std::vector<Completion>>& b,
                           size_t prompt) {
  double most = 0;
  for (size_t i = 0; i < a[prompt].size(); ++i)
    most = std::max(most, std::abs(a[prompt][i].logp[0] - b[prompt][i].logp[0]));
  return most;
}

TEST(FlexPrefillGeneration, AllBlocksAreAllKeys) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    auto model = some_model(dtype);
    SamplingOptions all = options(), none = options();
    all.flex_prefill.gamma = 1, none.flex_prefill.gamma = 0;
    GenerationReport report;
    const auto with = generate({{&model}}, prompts(), all, 0, &report), without = generate({{&model}}, prompts(), none);
    for (size_t p = 0; p < with.size(); ++p)
      for (size_t i = 0; i < 2; ++i) expect_same(with[p][i], without[p][i], dtype == at::kDouble ? 1e-6 : 1e-5);
    EXPECT_EQ(report.flex.kept_blocks, report.flex.all_blocks);
    EXPECT_GT(report.flex.all_blocks, 0);
  }
}

TEST(FlexPrefillGeneration, WhatAPromptSeesIsItsOwnAffair) {
  auto model = some_model();
  const std::vector<Tokens> all = prompts();
  GenerationReport report;
  const auto together = generate({{&model}}, all, options(), 0, &report);
  EXPECT_LT(report.flex.kept_share(), 0.8);
  SamplingOptions dense = options();
  dense.flex_prefill.gamma = 0;
  const auto with_all = generate({{&model}}, all, dense);
  for (size_t p = 0; p < all.size(); ++p) {
    SCOPED_TRACE(p);
    const auto alone = generate({{&model}}, {&all[p], 1}, options(), p);
    for (size_t i = 0; i < 2; ++i) expect_same(together[p][i], alone[0][i], 2e-6);
    EXPECT_EQ(greatest_difference(together, with_all, p) > 1e-5, all[p].size() >= 32) << "short prompts see all keys";
  }
  for (const auto& [seqs, tokens] : {std::pair<int64_t, int64_t>{2, 8192}, {6, 7}, {4, 40}}) {
    SamplingOptions narrow = options();
    narrow.max_num_seqs = seqs, narrow.max_num_batched_tokens = tokens;
    const auto again = generate({{&model}}, all, narrow);
    for (size_t p = 0; p < all.size(); ++p) {
      SCOPED_TRACE(text(seqs, " at once, ", tokens, " rows, prompt ", p));
      for (size_t i = 0; i < 2; ++i) expect_same(again[p][i], together[p][i], 2e-6);
    }
  }
}

TEST(FlexPrefillGeneration, PrefixesAreComputedOnceByWholeWindows) {
  const Sharing sharing(options().flex_prefill);
  const std::vector<Tokens> all = prompts();
  EXPECT_EQ(sharing.of(all[0], all[1]), 48);
  EXPECT_EQ(sharing.of(all[0], all[2]), 64);
  EXPECT_EQ(sharing.of(all[2], all[3]), 64);
  EXPECT_EQ(sharing.of(all[0], all[4]), 48) << "its last row sees all keys";
  EXPECT_EQ(sharing.of(all[0], all[5]), 108);
  EXPECT_EQ(sharing.of(all[0], all[6]), 0) << "a short one's rows see all keys";
  auto model = some_model();
  GenerationReport report;
  generate({{&model}}, all, options(), 0, &report);
  EXPECT_EQ(report.computed_tokens, 108 + 20 + 37 + 20 + 16 + 24 + 49);
}

TEST(FlexPrefillGeneration, ReportsWhatItChanges) {
  auto model = some_model();
  SamplingOptions checked = options();
  checked.flex_prefill.check_prompts = 2, checked.flex_prefill.max_error = 10;
  GenerationReport report;
  generate({{&model}}, prompts(), checked, 0, &report);
  const FlexReport& flex = report.flex;
  EXPECT_EQ(flex.checked_prompts, 2);
  EXPECT_EQ(flex.checked_tokens, 107 + 67);
  EXPECT_GT(flex.mean_difference(), 1e-4);
  EXPECT_GT(flex.greatest_difference, flex.mean_difference());
  checked.flex_prefill.max_error = flex.mean_difference() / 2;
  expect_words(error_of<ConfigError>([&] { generate({{&model}}, prompts(), checked); }),
               {"flex_prefill changes log-probs of 174 tokens by ", "flex_prefill.max_error is ",
                "raise flex_prefill.gamma (0.5)"});
  checked.flex_prefill.gamma = 1, checked.flex_prefill.max_error = 1e-9;
  GenerationReport exact;
  generate({{&model}}, prompts(), checked, 0, &exact);
  EXPECT_LT(exact.flex.greatest_difference, 1e-6);
}

TEST(FlexPrefillGeneration, RefusesWhatMakesNoSense) {
  auto model = some_model();
  const auto refusal = [&](auto change) {
    SamplingOptions wrong = options();
    change(wrong.flex_prefill);
    return error_of<ConfigError>([&] { generate({{&model}}, prompts(), wrong); });
  };
  expect_words(refusal([](auto& flex) { flex.gamma = 1.5; }), {"flex_prefill.gamma is 1.5", "between 0 and 1"});
  expect_words(refusal([](auto& flex) { flex.window = 18; }),
               {"flex_prefill.window 18 is no multiple of flex_prefill.block_size 4"});
  expect_words(refusal([](auto& flex) { flex.max_budget = 2; }),
               {"flex_prefill.max_budget is 2 and flex_prefill.min_budget 4"});
  arch::Model config = small_config("llama");
  config.adapter.prefix.tokens = 3;
  auto adapted = make_model(config, at::kDouble);
  expect_words(error_of<ConfigError>([&] { generate({{&adapted}}, prompts(), options()); }),
               {"flex_prefill.gamma looks at the keys of tokens only"});
}

TEST(FlexPrefillGeneration, CallsAreCutBetweenWindows) {
  const std::vector<PromptWindow> windows{
      {.place = 0, .rows = 4, .path = {}}, {.place = 4, .rows = 3, .path = {}}, {.place = 20, .rows = 4, .path = {}}};
  const Tokens places{0, 1, 2, 3, 4, 5, 6, 9, 10, 20, 21, 22, 23, 30};
  const auto cut = [&](size_t begin, size_t most) { return cut_between(windows, places, begin, most); };
  EXPECT_EQ(cut(0, 4), 4u);
  EXPECT_EQ(cut(0, 6), 4u);
  EXPECT_EQ(cut(0, 1), 4u) << "one window at least";
  EXPECT_EQ(cut(0, 8), 8u) << "rows of no window may part";
  EXPECT_EQ(cut(7, 4), 9u);
  EXPECT_EQ(cut(9, 2), 13u);
  EXPECT_EQ(cut(9, 99), 14u);
  EXPECT_EQ(cut(9, 0), 9u);
}

}  // namespace
}  // namespace fpdist::generate
