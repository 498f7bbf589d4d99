// Completions of a forest of prompts: each is what the model says of its prompt alone, token by token, without kept
// keys.
#include "fpdist/generate/generate.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
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
  randomize(model, 4);
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

/// Prompts behind a common text of more than a panel: ragged ones, equal ones, one that is another's beginning, one
/// that ends where a panel does.
std::vector<Tokens> long_prompts() {
  Rng rng(31);
  const auto token = [&] { return static_cast<int32_t>(rng.below(23)); };
  Tokens preamble(90);
  for (int32_t& one : preamble) one = token();
  std::vector<Tokens> prompts;
  for (const size_t more : {5, 33, 33, 75, 36, 1}) {
    prompts.push_back(preamble);
    for (size_t i = 0; i < more; ++i) prompts.back().push_back(token());
  }
  prompts.push_back(prompts[3]);
  prompts.emplace_back(prompts[3].begin(), prompts[3].begin() + 128);
  prompts.emplace_back(prompts[3].begin(), prompts[3].begin() + 100);
  prompts.push_back({7});
  return prompts;
}

model::Transformer wide_model(at::ScalarType dtype, int64_t vocabulary = 64) {
  arch::Model config = arch::model_of_shape(
      "qwen3",
      {.layers = 2, .hidden = 96, .intermediate = 416, .heads = 6, .kv_heads = 2, .head_dim = 16, .vocab = vocabulary});
  config.initializer_range = 0.2;
  auto model = make_model(config, dtype);
  randomize(model, 9);
  return model;
}

bool are_same_bits(const std::vector<Completion>& a, const std::vector<Completion>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Completion& one, const Completion& other) {
    return one.token == other.token && one.logp == other.logp && one.entropy == other.entropy;
  });
}

/// Ways of generating the same that do not give the bits of all together.
std::string ways_that_differ(model::Transformer& model, SamplingOptions options) {
  const std::vector<Tokens> prompts = long_prompts();
  std::string differ;
  const auto all = generate({{&model}}, prompts, options);
  const auto compare = [&](const std::string& way, const SamplingOptions& changed) {
    if (!std::ranges::equal(generate({{&model}}, prompts, changed), all, are_same_bits)) differ += way + "; ";
  };
  SamplingOptions changed = options;
  for (const auto& [seqs, batched] : {std::pair<int64_t, int64_t>{3, 70}, {16, 25}}) {
    changed.max_num_seqs = seqs, changed.max_num_batched_tokens = batched;
    compare(text(seqs, " together, ", batched, " rows"), changed);
  }
  changed = options, changed.kv_gib = 1e-9;
  const std::string what = error_of<ConfigError>([&] { generate({{&model}}, prompts, changed); });
  changed.kv_gib = 1.6 * std::stod(what.substr(what.find("give ") + 5));  // rows for some at a time
  compare("few rows", changed);
  for (const size_t p : {0, 3, 8, 9})
    if (!are_same_bits(generate({{&model}}, {&prompts[p], 1}, options, p)[0], all[p])) differ += text(p, " alone; ");
  at::set_num_threads(2);
  if (!are_same_bits(generate({{&model}}, {&prompts[2], 1}, options, 2)[0], all[2])) differ += "two threads; ";
  at::set_num_threads(1);
  options.temperature = 0;  // without draws, as who is asked first has the first ones
  const auto forward = generate({{&model}}, prompts, options);
  auto backward = generate({{&model}}, std::vector<Tokens>(prompts.rbegin(), prompts.rend()), options);
  std::ranges::reverse(backward);
  if (!std::ranges::equal(backward, forward, are_same_bits)) differ += "backward; ";
  return differ;
}

TEST(Generate, BatchInvariantIsTheSameBitsWhateverIsBeside) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    auto model = wide_model(dtype);
    SamplingOptions options = some_options(0.9);
    options.num_generations = 2, options.max_completion_length = 14, options.batch_invariant = true;
    options.stop_token_ids = {4};
    EXPECT_EQ(ways_that_differ(model, options), "") << dtype;
    options.batch_invariant = false;
    EXPECT_NE(ways_that_differ(model, options), "") << dtype << ": the test sees none of what rounds by the batch";
  }
}

/// A vocabulary that is cut into unequal parts, none of them a multiple of what a product goes by.
TEST(Generate, BatchInvariantHoldsForAnyVocabularyAndThreads) {
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const int64_t vocabulary : {67, 1031}) {
      auto model = wide_model(dtype, vocabulary);
      SamplingOptions options = some_options(0.9);
      options.num_generations = 2, options.max_completion_length = 4, options.batch_invariant = true;
      const std::vector<Tokens> prompts = long_prompts();
      const auto all = generate({{&model}}, prompts, options);
      for (const int threads : {1, 2, 3}) {
        at::set_num_threads(threads);
        EXPECT_TRUE(std::ranges::equal(generate({{&model}}, prompts, options), all, are_same_bits))
            << dtype << ", " << vocabulary << " tokens, " << threads << " threads";
        for (const size_t p : {2, 9})
          EXPECT_TRUE(are_same_bits(generate({{&model}}, {&prompts[p], 1}, options, p)[0], all[p]))
              << dtype << ", " << vocabulary << " tokens, " << threads << " threads, prompt " << p << " alone";
      }
      at::set_num_threads(1);
    }
}

TEST(Generate, BatchInvariantIsWhatTheModelSays) {
  auto model = wide_model(at::kFloat);
  SamplingOptions options = some_options(0.9);
  options.num_generations = 1, options.max_completion_length = 40, options.batch_invariant = true;
  const std::vector<Tokens> prompts = long_prompts();
  const auto all = generate({{&model}}, prompts, options);
  for (size_t p = 0; p < prompts.size(); ++p)
    for (const Completion& one : all[p]) {
      Tokens whole = prompts[p];
      whole.insert(whole.end(), one.token.begin(), one.token.end());
      const at::Tensor logp = at::log_softmax(logits_alone(model, whole).to(at::kDouble) / 0.9, 1);
      for (size_t t = 0; t < one.token.size(); ++t)
        ASSERT_NEAR(one.logp[t], logp[static_cast<int64_t>(prompts[p].size() + t) - 1][one.token[t]].item<double>(),
                    1e-4);
    }
  auto wrong = make_model(small_config("llama"), at::kDouble);
  expect_words(error_of<ConfigError>([&] { generate({{&wrong}}, kPrompts, options); }),
               {"rollout.batch_invariant is for float32 and bfloat16", "Double on cpu, heads of 6"});
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

/// Letters, pairs of them, and a character of two bytes in one token and in parts of it.
std::shared_ptr<const std::vector<std::string>> some_bytes(int64_t vocabulary) {
  const std::vector<std::string> pieces{"a",
                                        "b",
                                        "ab",
                                        "ba",
                                        "\xc3\xa9",
                                        "\xc3",
                                        "\xa9",
                                        "a\xc3",
                                        "\xa9"
                                        "b",
                                        ""};
  std::vector<std::string> all;
  for (int64_t id = 0; id + 3 < vocabulary; ++id) all.push_back(pieces[index(id) % pieces.size()]);
  return std::make_shared<const std::vector<std::string>>(
      std::move(all));  // of a padded vocabulary the last are missing
}

/// So many tokens until one of `texts` is there, by the whole text; 0: never.
size_t tokens_until(const Tokens& tokens, const std::vector<std::string>& bytes,
                    const std::vector<std::string>& texts) {
  std::string whole;
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (index(tokens[t]) < bytes.size()) whole += bytes[index(tokens[t])];
    for (const std::string& text : texts)
      if (whole.find(text) != std::string::npos) return t + 1;
  }
  return 0;
}

TEST(Generate, AStopTextEndsACompletionWhereverInTokensItStands) {
  auto model = make_model(small_config("llama"), at::kDouble);
  randomize(model, 7);
  SamplingOptions options = some_options(1.5);
  options.max_completion_length = 40;
  const auto free = generate({{&model}}, kPrompts, options);
  options.token_bytes = some_bytes(model.config().vocab_size);
  // One letter; inside a token or across two; a character, whole or of two tokens; long ones across several; two.
  for (const std::vector<std::string>& texts : std::vector<std::vector<std::string>>{{"b"},
                                                                                     {"ab"},
                                                                                     {"\xc3\xa9"},
                                                                                     {"\xa9"},
                                                                                     {"aba"},
                                                                                     {"b\xc3\xa9"
                                                                                      "b"},
                                                                                     {"abab", "baab"}}) {
    options.stop = texts;
    int ended = 0;
    for (const int64_t seqs : {256, 3}) {
      options.max_num_seqs = seqs;
      const auto all = generate({{&model}}, kPrompts, options);
      for (size_t p = 0; p < kPrompts.size(); ++p)
        for (size_t i = 0; i < 3; ++i) {
          const Tokens& whole = free[p][i].token;
          const size_t until = tokens_until(whole, *options.token_bytes, texts);
          EXPECT_EQ(all[p][i].token, Tokens(whole.begin(), until == 0 ? whole.end() : whole.begin() + until));
          EXPECT_EQ(all[p][i].finish_reason, until == 0 ? FinishReason::kLength : FinishReason::kStopString);
          ended += until > 0;
        }
    }
    EXPECT_GT(ended, 5) << texts.front();
  }
}

TEST(Generate, EndsAtTheFirstTokenAtTheLastAndAllAtOnce) {
  auto model = make_model(small_config("llama"), at::kDouble);
  randomize(model, 7);
  SamplingOptions options = some_options(1.5);
  const auto free = generate({{&model}}, kPrompts, options);
  options.token_bytes = some_bytes(model.config().vocab_size);
  // The sixth token of six says why: a stop token, a stop text, or the limit.
  const Tokens& first = free[0][0].token;
  const std::string& last = options.token_bytes->at(index(first.back()));
  ASSERT_EQ(std::count(first.begin(), first.end(), first.back()), 1);
  options.stop_token_ids = {first.back()};
  if (!last.empty()) options.stop = {last};
  EXPECT_EQ(generate({{&model}}, kPrompts, options)[0][0].finish_reason, FinishReason::kStop) << "a token comes first";
  options = some_options(1.5), options.token_bytes = some_bytes(model.config().vocab_size);
  options.stop_token_ids.resize(index(model.config().vocab_size));
  std::iota(options.stop_token_ids.begin(), options.stop_token_ids.end(), 0);
  GenerationReport report;
  for (const auto& of_prompt : generate({{&model}}, kPrompts, options, 0, &report))
    for (const Completion& one : of_prompt) {
      EXPECT_EQ(one.token.size(), 1u);
      EXPECT_EQ(one.finish_reason, FinishReason::kStop);
    }
  EXPECT_EQ(report.completion_tokens, 21);
  options.stop_token_ids.clear();
  for (const int64_t most : {1, 6}) {
    options.max_completion_length = most;
    const auto all = generate({{&model}}, kPrompts, options);
    for (size_t p = 0; p < kPrompts.size(); ++p)
      for (size_t i = 0; i < 3; ++i) {
        const Tokens& whole = free[p][i].token;
        EXPECT_EQ(all[p][i].token, Tokens(whole.begin(), whole.begin() + most)) << "exactly the limit";
        EXPECT_EQ(all[p][i].finish_reason, FinishReason::kLength);
      }
  }
}

TEST(Generate, RefusesPromptsThatItCannotFollow) {
  auto model = make_model(small_config("llama"), at::kFloat);
  const auto refusal = [&](std::vector<Tokens> prompts) {
    return error_of<DataError>([&] { generate({{&model}}, prompts, some_options(1)); });
  };
  expect_words(refusal({{1}, {}}), {"prompt 2 is empty"});
  expect_words(refusal({{1, 99999}}), {"prompt 1: 99999 is no token of a vocabulary of "});
  expect_words(refusal({Tokens(static_cast<size_t>(model.config().max_position_embeddings), 1)}),
               {"prompt 1 has ", "max_completion_length 6", "has positions for "});
  SamplingOptions options = some_options(1);
  options.stop_token_ids = {-3};
  expect_words(error_of<ConfigError>([&] { generate({{&model}}, kPrompts, options); }), {"rollout.stop_token_ids: -3"});
  options = some_options(1), options.stop = {"."};
  expect_words(error_of<ConfigError>([&] { generate({{&model}}, kPrompts, options); }),
               {"rollout.stop looks for texts", "token_bytes", "stop_token_ids"});
  options.stop = {""}, options.token_bytes = some_bytes(9);
  expect_words(error_of<ConfigError>([&] { generate({{&model}}, kPrompts, options); }), {"rollout.stop has an empty"});
  options = some_options(1);
  options.kv_gib = 1e-6;
  expect_words(
      error_of<ConfigError>([&] { generate({{&model}}, kPrompts, options); }),
      {"prompt 1 with its 3 completions of up to 6 tokens needs 39 rows", "rollout.kv_gib 1e-06 holds ", ": give "});
  EXPECT_TRUE(generate({{&model}}, {}, some_options(1)).empty());
}

}  // namespace
}  // namespace fpdist::generate
