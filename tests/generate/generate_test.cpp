// Completions of a forest of prompts: each is what the model says of its prompt alone, token by token, without kept
// keys.
#include "fpdist/generate/generate.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::generate {
namespace {

using test::error_of, test::expect_words, test::make_model, test::randomize, test::small_config;
using Tokens = std::vector<int32_t>;

const std::vector<Tokens> kPrompts = {{3, 1, 4, 1, 5},
                                      {3, 1, 4, 2},
                                      {3, 1, 4},  // a prompt that is another's beginning
                                      {3, 1, 4, 2},
                                      {7},  // the same twice
                                      {3, 1, 4, 1, 5, 9, 2, 6, 5},
                                      {8, 8, 8}};

/// [T,V] of one sequence alone.
at::Tensor logits_alone(model::Transformer& model, const Tokens& tokens) {
  const at::NoGradGuard no_grad;
  const std::vector<data::Sample> alone{test::sample_of(tokens)};
  const auto pack = parallel::make_pack_tensors(test::layout_of(alone, true));
  return model.logits(model.forward(0, pack.slice.front().rows, {}));
}

void expect_as_alone(model::Transformer& model, const Tokens& prompt, const Completion& completion,
                     double temperature) {
  Tokens whole = prompt;
  whole.insert(whole.end(), completion.token.begin(), completion.token.end());
  const at::Tensor logp =
      at::log_softmax(logits_alone(model, whole).to(at::kDouble) / (temperature == 0 ? 1 : temperature), 1);
  for (size_t t = 0; t < completion.token.size(); ++t) {
    const at::Tensor row = logp[static_cast<int64_t>(prompt.size() + t) - 1];
    EXPECT_NEAR(completion.logp[t], row[completion.token[t]].item<double>(), 2e-6);  // the logits are float32
    EXPECT_NEAR(completion.entropy[t], -(row.exp() * row).sum().item<double>(), 2e-6);
    if (temperature == 0) {
      EXPECT_EQ(completion.token[t], row.argmax().item<int64_t>());
    }
  }
}

SamplingOptions some_options(double temperature) {
  return {.num_generations = 3, .max_completion_length = 6, .temperature = temperature, .seed = 11};
}

TEST(Generate, EveryCompletionIsWhatItsPromptAloneWouldGive) {
  for (const std::string family : {"llama", "qwen2", "qwen3"})
    for (const auto dtype : {at::kDouble, at::kFloat})
      for (const double temperature : {0.0, 0.7}) {
        SCOPED_TRACE(family + (temperature == 0 ? ", greedy" : ", drawn"));
        auto model = make_model(small_config(family), dtype);
        randomize(model, 5);
        GenerationReport report;
        const auto all = generate({{&model}}, kPrompts, some_options(temperature), 0, &report);
        ASSERT_EQ(all.size(), kPrompts.size());
        for (size_t p = 0; p < kPrompts.size(); ++p) {
          ASSERT_EQ(all[p].size(), 3u);
          for (const Completion& one : all[p]) {
            EXPECT_EQ(one.token.size(), 6u);
            expect_as_alone(model, kPrompts[p], one, temperature);
          }
          if (temperature == 0) {
            EXPECT_EQ(all[p][0].token, all[p][2].token);
          }
        }
        EXPECT_EQ(report.prompt_tokens, 29);
        EXPECT_EQ(report.computed_tokens, 14);  // 3 1 4, 1 5 9 2 6 5, 2, 7, 8 8 8
        EXPECT_EQ(report.completion_tokens, 7 * 3 * 6);
      }
}

TEST(Generate, PacksWeightsForAsLongAsItTakes) {
  auto model = make_model(small_config("llama"), at::kFloat), other = make_model(small_config("llama"), at::kFloat);
  randomize(model, 5);
  const auto before = generate({{&model}}, kPrompts, some_options(0));
  for (const ops::ParameterPtr& parameter : model.parameters()) EXPECT_EQ(parameter->packed, nullptr);
  randomize(model, 6), randomize(other, 6);
  const auto after = generate({{&model}}, kPrompts, some_options(0)),
             fresh = generate({{&other}}, kPrompts, some_options(0));
  for (size_t p = 0; p < kPrompts.size(); ++p) EXPECT_EQ(after[p][0].logp, fresh[p][0].logp);
  EXPECT_NE(before[0][0].logp, after[0][0].logp);
  EXPECT_THROW(generate({{&model}}, std::vector<Tokens>{{}}, some_options(0)), DataError);
  for (const ops::ParameterPtr& parameter : model.parameters()) EXPECT_EQ(parameter->packed, nullptr);
}

/// Who else is decoded, in which order, how many at once and in how many parts the prompts are computed.
TEST(Generate, ATokenIsAFunctionOfItsPromptAndItsDraw) {
  auto model = make_model(small_config("qwen2"), at::kDouble);
  randomize(model, 6);
  const auto all = generate({{&model}}, kPrompts, some_options(1.3));
  for (size_t p = 0; p < kPrompts.size(); ++p) {
    const auto alone = generate({{&model}}, {&kPrompts[p], 1}, some_options(1.3), /*first_prompt=*/p);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(alone[0][i].token, all[p][i].token) << p << " " << i;
  }
  EXPECT_NE(all[1][0].token, all[3][0].token) << "two prompts that are equal have draws of their own";
  for (const auto& [seqs, tokens] : {std::pair<int64_t, int64_t>{1, 8192}, {6, 2}, {9, 5}}) {
    SamplingOptions narrow = some_options(1.3);
    narrow.max_num_seqs = seqs, narrow.max_num_batched_tokens = tokens;
    const auto again = generate({{&model}}, kPrompts, narrow);
    for (size_t p = 0; p < kPrompts.size(); ++p)
      for (size_t i = 0; i < 3; ++i) EXPECT_EQ(again[p][i].token, all[p][i].token) << p << " " << i;
  }
  SamplingOptions other = some_options(1.3);
  other.seed = 12;
  EXPECT_NE(generate({{&model}}, kPrompts, other)[0][0].token, all[0][0].token);
}

/// Prompts that branch anywhere off earlier ones, end inside others or are others again.
std::vector<Tokens> random_prompts(Rng& rng, int64_t vocabulary) {
  std::vector<Tokens> prompts(1 + rng.below(9));
  for (size_t p = 0; p < prompts.size(); ++p) {
    if (p > 0) {
      const Tokens& from = prompts[rng.below(p)];
      prompts[p].assign(from.begin(), from.begin() + static_cast<int64_t>(rng.below(from.size() + 1)));
    }
    for (uint64_t more = rng.below(20) + (prompts[p].empty() ? 1 : 0); more > 0; --more)
      prompts[p].push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocabulary))));
  }
  return prompts;
}

TEST(Generate, AnyForestUnderAnyLimitsGivesWhatEachPromptAloneGives) {
  auto model = make_model(small_config("qwen3"), at::kDouble);
  randomize(model, 9);
  const int64_t vocabulary = model.config().vocab_size;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const std::vector<Tokens> prompts = random_prompts(rng, vocabulary);
    SamplingOptions options{.num_generations = 1 + static_cast<int64_t>(rng.below(4)),
                            .max_completion_length = 1 + static_cast<int64_t>(rng.below(40)),
                            .temperature = rng.below(2) == 0 ? 0 : 0.8,
                            .stop_token_ids = {static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocabulary)))},
                            .max_num_seqs = 1 + static_cast<int64_t>(rng.below(20)),
                            .max_num_batched_tokens = 1 + static_cast<int64_t>(rng.below(60)),
                            .seed = seed};
    const size_t longest = std::max_element(prompts.begin(), prompts.end(), [](const Tokens& a, const Tokens& b) {
                             return a.size() < b.size();
                           })->size();
    const int64_t rows = static_cast<int64_t>(longest) + options.num_generations * options.max_completion_length + 16;
    const auto& attention = model.config().layers[0].attention;
    options.kv_gib = static_cast<double>(2 * model.config().layer_count() * attention.kv_heads * attention.head_dim *
                                         8 * (rows + static_cast<int64_t>(rng.below(40)))) /
                     0x1p30;
    const auto all = generate({{&model}}, prompts, options);
    for (size_t p = 0; p < prompts.size(); ++p)
      for (const Completion& one : all[p]) expect_as_alone(model, prompts[p], one, options.temperature);
  }
}

/// A prefix stays while somebody has it, and is there for who enters when its last one has just ended.
TEST(Generate, PromptsEnterAsOthersEndAndShareWhatIsThere) {
  auto model = make_model(small_config("llama"), at::kDouble);
  SamplingOptions options = some_options(1);
  options.max_num_seqs = 3;  // one prompt's
  GenerationReport report;
  generate({{&model}}, kPrompts, options, 0, &report);
  EXPECT_EQ(report.computed_tokens, 14 + 1);  // the second of two equal prompts draws from its last row
  EXPECT_EQ(report.most_rows, 9 + 3 * 6 + 16) << "the longest prompt's, its completions' and what fills calls up";
}

/// Prompts whose completions end soon, and behind them prompts whose completions do not end.
std::vector<Tokens> first_short_then_long(const model::Transformer& model, const SamplingOptions& options) {
  Rng rng(21);
  std::vector<Tokens> tried(400), kept;
  for (Tokens& prompt : tried)
    for (uint64_t i = 0, many = 2 + rng.below(9); i < many; ++i)
      prompt.push_back(static_cast<int32_t>(rng.below(i == 0 ? 20 : 3)));
  const auto all = generate({{&model}}, tried, options);
  size_t soon = 0, late = 0;
  for (size_t p = 0; p < tried.size(); ++p) {
    const size_t tokens = all[p][0].token.size();
    if (tried[p][0] < 10 && tokens <= 8 && ++soon <= 20) kept.push_back(tried[p]);
    if (tried[p][0] >= 10 && tokens == index(options.max_completion_length) && ++late <= 12) kept.push_back(tried[p]);
  }
  EXPECT_TRUE(soon >= 20 && late >= 12) << soon << " " << late;
  return kept;
}

/// Rows for one prompt's completions at their full length: who enters is foreseen from who has ended, who finds no row
/// leaves and comes back, and nobody's tokens or log-probs see any of it.
TEST(Generate, FewRowsChangeNothingButWhoIsInFlight) {
  auto model = make_model(small_config("qwen2"), at::kDouble);
  randomize(model, 8);
  SamplingOptions options = some_options(0);
  options.num_generations = 2, options.max_completion_length = 60;
  for (int32_t token = 0; token < model.config().vocab_size; token += 6) options.stop_token_ids.push_back(token);
  const std::vector<Tokens> prompts = first_short_then_long(model, options);
  GenerationReport wide;
  const auto all = generate({{&model}}, prompts, options, 0, &wide);
  EXPECT_EQ(wide.paused, 0);
  const auto& attention = model.config().layers[0].attention;
  const int64_t bytes = 2 * model.config().layer_count() * attention.kv_heads * attention.head_dim * 8;
  const int64_t rows = 10 + 2 * 60 + 16;
  options.kv_gib = static_cast<double>(bytes * rows) / 0x1p30;
  for (const int64_t batched : {8192, 3}) {
    options.max_num_batched_tokens = batched;
    GenerationReport narrow;
    const auto again = generate({{&model}}, prompts, options, 0, &narrow);
    EXPECT_GT(narrow.paused, 0);
    EXPECT_LE(narrow.most_rows, rows);
    EXPECT_GT(narrow.computed_tokens, wide.computed_tokens);
    for (size_t p = 0; p < prompts.size(); ++p)
      for (size_t i = 0; i < 2; ++i) {
        ASSERT_EQ(again[p][i].token, all[p][i].token) << p << " " << i;
        for (size_t t = 0; t < all[p][i].logp.size(); ++t)
          ASSERT_NEAR(again[p][i].logp[t], all[p][i].logp[t], 2e-6) << p << " " << i << " " << t;
      }
  }
}

TEST(Generate, AStopTokenIsTheLastOneAndOthersGoOn) {
  auto model = make_model(small_config("llama"), at::kDouble);
  randomize(model, 7);
  SamplingOptions options = some_options(1.5);
  options.max_completion_length = 40;
  const auto free = generate({{&model}}, kPrompts, options);
  options.stop_token_ids = {2, 5};
  int stopped = 0;
  std::vector<int64_t> finished;
  const auto ended =
      generate({{&model}}, kPrompts, options, 0, nullptr, [&](int64_t done, int64_t) { finished.push_back(done); });
  for (size_t p = 0; p < kPrompts.size(); ++p)
    for (size_t i = 0; i < 3; ++i) {
      const Tokens& whole = free[p][i].token;
      const auto stop =
          std::find_if(whole.begin(), whole.end(), [](int32_t token) { return token == 2 || token == 5; });
      const Completion& one = ended[p][i];
      EXPECT_EQ(one.token, Tokens(whole.begin(), stop == whole.end() ? stop : stop + 1));
      EXPECT_EQ(one.finish_reason, stop == whole.end() ? FinishReason::kLength : FinishReason::kStop);
      EXPECT_EQ(one.logp.size(), one.token.size());
      stopped += one.finish_reason == FinishReason::kStop;
    }
  EXPECT_GT(stopped, 10);
  EXPECT_TRUE(std::is_sorted(finished.begin(), finished.end()));
  EXPECT_EQ(finished.back(), 21);
  options.max_completion_length = 1;
  for (const auto& of_prompt : generate({{&model}}, kPrompts, options))
    for (const Completion& one : of_prompt) EXPECT_EQ(one.token.size(), 1u);
}

TEST(Generate, RefusesPromptsThatItCannotFollow) {
  auto model = make_model(small_config("llama"), at::kFloat);
  const auto refusal = [&](std::vector<Tokens> prompts) {
    return error_of<DataError>([&] { generate({{&model}}, prompts, some_options(1)); });
  };
  expect_words(refusal({{1}, {}}), {"prompt 2 is empty"});
  expect_words(refusal({{1, 99999}}), {"prompt 1: 99999 is no token of a vocabulary of "});
  expect_words(refusal({Tokens(static_cast<size_t>(model.config().max_position_embeddings), 1)}),
               {"prompt 1 has ", "max_completion_length 6", "max_position_embeddings "});
  SamplingOptions options = some_options(1);
  options.stop_token_ids = {-3};
  expect_words(error_of<ConfigError>([&] { generate({{&model}}, kPrompts, options); }), {"rollout.stop_token_ids: -3"});
  options = some_options(1);
  options.kv_gib = 1e-6;
  expect_words(
      error_of<ConfigError>([&] { generate({{&model}}, kPrompts, options); }),
      {"prompt 1 with its 3 completions of up to 6 tokens needs 39 rows", "rollout.kv_gib 1e-06 holds ", ": give "});
  EXPECT_TRUE(generate({{&model}}, {}, some_options(1)).empty());
}

}  // namespace
}  // namespace fpdist::generate
