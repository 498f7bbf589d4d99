// One token from one row: who is left by the filters, who is drawn how often, and what the log-probs are of.
#include "src/generate/sampling.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/generate/draw_over_ranks.hpp"
#include "src/generate/draw_rows.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::generate {
namespace {

using test::error_of, test::expect_words;

std::vector<float> some_logits(size_t size, uint64_t seed, bool with_ties) {
  Rng rng(seed);
  std::vector<float> logits(size);
  for (float& logit : logits)
    logit = with_ties ? static_cast<float>(rng.below(7)) : static_cast<float>(3 * rng.normal());
  return logits;
}

std::set<size_t> kept(const std::vector<double>& weights) {
  std::set<size_t> all;
  for (size_t i = 0; i < weights.size(); ++i)
    if (weights[i] > 0) all.insert(i);
  return all;
}

/// By the words of the options, one after the other, with a sort.
std::set<size_t> kept_by_definition(std::vector<double> logit, const SamplingOptions& options) {
  std::vector<size_t> order(logit.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logit[a] > logit[b]; });
  std::set<size_t> left(order.begin(), order.end());
  if (options.top_k > 0) {
    const double least = logit[order[static_cast<size_t>(std::min<int64_t>(options.top_k, std::ssize(order))) - 1]];
    std::erase_if(left, [&](size_t i) { return logit[i] < least; });
  }
  const auto weight = [&](size_t i) { return std::exp((logit[i] - logit[order[0]]) / options.temperature); };
  double sum = 0;
  for (const size_t i : left) sum += weight(i);
  double rest = 0;
  for (size_t place = order.size(); place-- > 1;) {
    const size_t i = order[place];
    if (!left.contains(i)) continue;
    rest += weight(i);
    if (options.top_p >= 1 || rest > (1 - options.top_p) * sum) break;
    left.erase(i);
  }
  std::erase_if(left, [&](size_t i) { return weight(i) < options.min_p; });
  return left;
}

TEST(Sampling, FiltersLeaveWhatTheirWordsSay) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Rng rng(seed, 1);
    SamplingOptions options;
    options.temperature = 0.3 + 2 * rng.uniform();
    options.top_k = static_cast<int64_t>(rng.below(2) * rng.below(60));
    options.top_p = rng.below(2) ? 1 : 0.05 + 0.9 * rng.uniform();
    options.min_p = rng.below(2) ? 0 : 0.5 * rng.uniform();
    const bool with_ties = rng.below(2) == 0 && options.top_p == 1;  // among equals top_p's choice is the sort's
    const auto logits = some_logits(50, seed, with_ties);
    EXPECT_EQ(kept(kept_weights(logits, {}, options)), kept_by_definition({logits.begin(), logits.end()}, options))
        << "seed " << seed;
  }
}

TEST(Sampling, ThePenaltyCountsATokenOnce) {
  const std::vector<float> logits{2, -2, 1, 0};
  const std::vector<int32_t> history{0, 1, 1, 0, 0};
  const SamplingOptions options{.repetition_penalty = 2};
  const auto weights = kept_weights(logits, history, options);
  const std::vector<double> expected{1, -4, 1, 0};  // 2 / 2, -2 * 2
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(weights[i], std::exp(expected[i] - 1), 1e-6) << i;
}

TEST(Sampling, DrawsFollowTheWeights) {
  const auto logits = some_logits(3000, 3, false);  // several blocks
  const SamplingOptions options{.temperature = 0.8, .top_k = 40};
  const auto weights = kept_weights(logits, {}, options);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  constexpr int kDraws = 100000;
  std::vector<int> count(weights.size());
  for (int draw = 0; draw < kDraws; ++draw)
    ++count[static_cast<size_t>(at_share(weights, share_of(5, static_cast<uint64_t>(draw), 9)))];
  double chi = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double expected = kDraws * weights[i] / sum;
    if (weights[i] == 0) {
      EXPECT_EQ(count[i], 0);
    } else {
      chi += (count[i] - expected) * (count[i] - expected) / expected;
    }
  }
  EXPECT_LT(chi, 73.4);  // 39 degrees of freedom: 1 in 1,000 above it
}

TEST(Sampling, TheEndsOfTheLineAreTokensThatWereLeft) {
  std::vector<double> weights(2100, 0.0);
  weights[5] = 0.25, weights[2000] = 0.75;
  EXPECT_EQ(at_share(weights, 0), 5);
  EXPECT_EQ(at_share(weights, 0.2499), 5);
  EXPECT_EQ(at_share(weights, 0.2501), 2000);
  EXPECT_EQ(at_share(weights, 1 - 0x1p-53), 2000);
  weights.resize(2048);  // an end behind the last block's end
  EXPECT_EQ(at_share(weights, 1 - 0x1p-53), 2000);
}

TEST(Sampling, EveryPlaceHasItsOwnNumber) {
  std::set<double> all;
  for (const uint64_t seed : {1, 2})
    for (const uint64_t draw : {0, 1, 2})
      for (const uint64_t position : {0, 1, 2}) all.insert(share_of(seed, draw, position));
  EXPECT_EQ(all.size(), 18u);
  EXPECT_GE(*all.begin(), 0);
  EXPECT_LT(*all.rbegin(), 1);
}

TEST(Sampling, LogProbsAreOfAllTokensAtTheTemperature) {
  const std::vector<float> logits{1, 2, 4};
  const SamplingOptions narrow{.temperature = 2, .top_k = 1};
  const Drawn drawn = draw_token(logits, {}, narrow, 0.7);
  const double sum = std::exp(0.5) + std::exp(1.0) + std::exp(2.0);
  EXPECT_EQ(drawn.token, 2);
  EXPECT_NEAR(drawn.logp, 2 - std::log(sum), 1e-12);
  EXPECT_NEAR(drawn.entropy, std::log(sum) - (0.5 * std::exp(0.5) + std::exp(1.0) + 2 * std::exp(2.0)) / sum, 1e-12);
  const SamplingOptions greedy{.temperature = 0};
  EXPECT_NEAR(draw_token(logits, {}, greedy, 0.7).logp, 4 - std::log(std::exp(1.0) + std::exp(2.0) + std::exp(4.0)),
              1e-12);
}

/// Rows at once, as a GPU draws them, are draw_token's.
void expect_rows_as_alone(const std::vector<std::vector<float>>& logits, const SamplingOptions& options,
                          uint64_t seed) {
  std::vector<float> flat;
  for (const auto& row : logits) flat.insert(flat.end(), row.begin(), row.end());
  const int64_t rows = std::ssize(logits), vocabulary = std::ssize(logits[0]);
  const at::Tensor all = at::from_blob(flat.data(), {rows, vocabulary}, at::kFloat);
  const std::vector<int32_t> history{3, 0, 3, 5};
  std::vector<RowDraw> draws;
  for (int64_t i = 0; i < 2 * rows; ++i)  // two from each row
    draws.push_back({i % rows, i % 3 == 0 ? std::span<const int32_t>() : history,
                     i == 0 ? 1 - 0x1p-53 : share_of(seed, static_cast<uint64_t>(i), 1)});
  const std::vector<Drawn> found = draw_rows(all, draws, options);
  ASSERT_EQ(found.size(), draws.size());
  for (size_t i = 0; i < draws.size(); ++i) {
    const Drawn alone = draw_token(logits[static_cast<size_t>(draws[i].row)], draws[i].history, options, draws[i].u);
    EXPECT_EQ(found[i].token, alone.token) << "draw " << i;
    EXPECT_NEAR(found[i].logp, alone.logp, 1e-12);
    EXPECT_NEAR(found[i].entropy, alone.entropy, 1e-12);
    EXPECT_NEAR(found[i].truncated, alone.truncated, 1e-12);
  }
}

TEST(Sampling, RowsAtOnceAreDrawnAsAlone) {
  for (uint64_t seed = 0; seed < 8; ++seed)
    for (const size_t size : {7, 1024, 2100})
      for (const bool with_ties : {false, true})
        for (const SamplingOptions& options :
             {SamplingOptions{}, SamplingOptions{.temperature = 0}, SamplingOptions{.temperature = 0.7, .top_k = 3},
              SamplingOptions{.top_p = 0.6}, SamplingOptions{.temperature = 2, .min_p = 0.2},
              SamplingOptions{.temperature = 0, .repetition_penalty = 1.7},
              SamplingOptions{
                  .temperature = 1.3, .top_k = 5, .top_p = 0.9, .min_p = 0.01, .repetition_penalty = 0.6}}) {
          SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << size << " logits, top_k " << options.top_k
                                          << ", top_p " << options.top_p << ", temperature " << options.temperature);
          expect_rows_as_alone({some_logits(size, seed, with_ties), some_logits(size, seed + 99, with_ties)}, options,
                               seed);
        }
  std::vector<std::vector<float>> large{3, some_logits(3 << 20, 1, false)};  // more than goes through at once
  expect_rows_as_alone(large, {}, 1);
  std::vector<float> last(2048, -200.0f);  // one weight that is not 0, far ahead of the last block
  last[5] = 900;
  expect_rows_as_alone({last}, {.min_p = 0.1}, 2);
}

/// This rank's part of the vocabulary.
at::Tensor own_part(const at::Tensor& logits, const comm::Communicator& tp) {
  const auto counts = parallel::split_evenly(logits.size(1), tp.size());
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + tp.rank(), int64_t{0});
  return logits.narrow(1, begin, counts[static_cast<size_t>(tp.rank())]).contiguous();
}

void expect_ranks_as_one(const at::Tensor& logits, const SamplingOptions& options, uint64_t seed,
                         comm::Communicator& tp) {
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  const std::vector<int32_t> history{3, 0, 3, 5, static_cast<int32_t>(vocabulary) - 1};
  std::vector<RowDraw> draws;
  for (int64_t i = 0; i < 2 * rows; ++i)
    draws.push_back({i % rows, i % 2 == 0 ? std::span<const int32_t>() : history,
                     i == 0 ? 1 - 0x1p-53 : share_of(seed, static_cast<uint64_t>(i), 1)});
  const std::vector<Drawn> found = draw_over_ranks(own_part(logits, tp), draws, options, vocabulary, tp);
  ASSERT_EQ(found.size(), draws.size());
  for (size_t i = 0; i < draws.size(); ++i) {
    const float* const row = logits.const_data_ptr<float>() + draws[i].row * vocabulary;
    const Drawn alone = draw_token({row, static_cast<size_t>(vocabulary)}, draws[i].history, options, draws[i].u);
    EXPECT_EQ(found[i].token, alone.token) << "draw " << i;
    EXPECT_NEAR(found[i].logp, alone.logp, 1e-12);
    EXPECT_NEAR(found[i].entropy, alone.entropy, 1e-12);
    EXPECT_NEAR(found[i].truncated, alone.truncated, 1e-12);
  }
}

at::Tensor some_rows(int64_t rows, int64_t vocabulary, uint64_t seed, bool with_ties) {
  at::Tensor all = at::empty({rows, vocabulary}, at::kFloat);
  for (int64_t r = 0; r < rows; ++r)
    std::ranges::copy(some_logits(static_cast<size_t>(vocabulary), seed + 50 * static_cast<uint64_t>(r), with_ties),
                      all.mutable_data_ptr<float>() + r * vocabulary);
  return all;
}

TEST(Sampling, RanksOfAVocabularyDrawAsOne) {
  const std::vector<SamplingOptions> all_options{
      {},
      {.temperature = 0.7},
      {.temperature = 0},
      {.temperature = 0, .repetition_penalty = 1.7},
      {.temperature = 0.7, .top_k = 3},
      {.top_p = 0.6},
      {.temperature = 2, .min_p = 0.2},
      {.repetition_penalty = 1.4},
      {.temperature = 1.3, .top_k = 5, .top_p = 0.9, .min_p = 0.01, .repetition_penalty = 0.6},
      {.temperature = 0.5, .top_p = 0.95, .min_p = 0.001, .repetition_penalty = 1.2}};
  for (const int ranks : {2, 3})
    comm::run_threads(ranks, [&](comm::World& world) {
      for (uint64_t seed = 0; seed < 8; ++seed)
        for (const int64_t vocabulary : {7, 2500})
          for (const bool with_ties : {false, true})
            for (const SamplingOptions& options : all_options) {
              SCOPED_TRACE(testing::Message() << ranks << " ranks, seed " << seed << ", " << vocabulary
                                              << " logits, top_k " << options.top_k << ", top_p " << options.top_p
                                              << ", temperature " << options.temperature << ", ties " << with_ties);
              expect_ranks_as_one(some_rows(3, vocabulary, seed, with_ties), options, seed, world.communicator());
            }
    });
}

TEST(Sampling, RanksOfAVocabularyTellEachOtherLessThanTheirLogits) {
  const at::Tensor logits = some_rows(2, 150000, 3, false);
  comm::run_threads(2, [&](comm::World& world) {
    comm::Communicator& tp = world.communicator();
    for (const SamplingOptions& options :
         {SamplingOptions{}, SamplingOptions{.temperature = 0}, SamplingOptions{.temperature = 0.7, .top_k = 50}}) {
      const int64_t before = tp.traffic().bytes;
      const std::vector<RowDraw> draws{{0, {}, 0.3}, {1, {}, 0.8}};
      (void)draw_over_ranks(own_part(logits, tp), draws, options, 150000, tp);
      const int64_t sent = (tp.traffic().bytes - before) / 2;
      EXPECT_LT(sent, 3000) << "bytes a row, of 300,000 of a rank's logits";
      if (world.rank() == 0)
        std::cout << "top_k " << options.top_k << ", temperature " << options.temperature << ": " << sent
                  << " bytes a row" << std::endl;
    }
  });
}

TEST(Sampling, LogitsThatAreNotFiniteEndADrawOnAllRanks) {
  comm::run_threads(2, [&](comm::World& world) {
    at::Tensor own = at::zeros({1, 20});
    if (world.rank() == 1) own[0][3] = NAN;
    const std::vector<RowDraw> draws{{0, {}, 0.3}};
    for (const SamplingOptions& options :
         {SamplingOptions{}, SamplingOptions{.top_p = 0.5}, SamplingOptions{.temperature = 0}})
      EXPECT_THROW((void)draw_over_ranks(own, draws, options, 40, world.communicator()), Error);
  });
}

TEST(Sampling, OptionsThatMakeNoSenseAreNamed) {
  const auto refusal = [](auto change) {
    SamplingOptions options;
    change(options);
    return error_of<ConfigError>([&] { check_options(options); });
  };
  using Options = SamplingOptions;
  expect_words(refusal([](Options& o) { o.num_generations = 0; }), {"rollout.num_generations is 0"});
  expect_words(refusal([](Options& o) { o.max_completion_length = 0; }), {"rollout.max_completion_length is 0"});
  expect_words(refusal([](Options& o) { o.temperature = -1; }), {"rollout.temperature is -1"});
  expect_words(refusal([](Options& o) { o.top_k = -1; }), {"rollout.top_k is -1"});
  expect_words(refusal([](Options& o) { o.top_p = 0; }), {"rollout.top_p is 0"});
  expect_words(refusal([](Options& o) { o.min_p = 1.5; }), {"rollout.min_p is 1.5"});
  expect_words(refusal([](Options& o) { o.repetition_penalty = 0; }), {"rollout.repetition_penalty is 0"});
  expect_words(refusal([](Options& o) { o.max_num_seqs = 0; }), {"rollout.max_num_seqs is 0"});
  expect_words(refusal([](Options& o) { o.max_num_batched_tokens = 0; }), {"rollout.max_num_batched_tokens is 0"});
  check_options({});
}

TEST(Sampling, LogitsThatAreNotFiniteAreAnError) {
  std::vector<float> logits(40, 0.5f);
  for (const float none : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const double temperature : {0.0, 1.0}) {
      logits[17] = none;
      EXPECT_THROW(draw_token(logits, {}, {.temperature = temperature}, 0.5), Error);
      const RowDraw draw{0, {}, 0.5};
      EXPECT_THROW(
          draw_rows(at::from_blob(logits.data(), {1, 40}, at::kFloat), {&draw, 1}, {.temperature = temperature}),
          Error);
    }
}

}  // namespace
}  // namespace fpdist::generate
