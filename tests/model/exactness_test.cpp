// Sharing changes nothing: random forests in float64, in one pack of trees and each sample alone.

#include <gtest/gtest.h>

#include "fpdist/core/rng.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::model {
namespace {

using test::layout_of, test::make_model, test::randomize, test::relative_error, test::sample_of, test::small_config,
    test::take_gradients;

std::vector<int32_t> random_tokens(Rng& rng, uint64_t count) {
  std::vector<int32_t> tokens;
  for (uint64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(rng.below(23)));
  return tokens;
}

/// Samples that branch off each other at random places, with repeats, prefixes of others, one token, and none.
std::vector<data::Sample> random_forest(Rng& rng) {
  std::vector<std::vector<int32_t>> tokens{random_tokens(rng, 1 + rng.below(12))};
  const uint64_t count = 2 + rng.below(6);
  while (tokens.size() < count) {
    auto next = tokens[rng.below(tokens.size())];
    next.resize(rng.below(next.size() + 1));
    const auto more = random_tokens(rng, rng.below(8));
    next.insert(next.end(), more.begin(), more.end());
    tokens.push_back(next);
  }
  std::vector<data::Sample> samples;
  for (auto& sample : tokens) {
    samples.push_back(sample_of(std::move(sample)));
    for (auto& target : samples.back().target)
      if (rng.below(4) == 0) target = data::kIgnore;
  }
  return samples;
}

struct Result {
  at::Tensor logp;  ///< [E] by sample, then index
  std::map<std::string, at::Tensor> gradient;
};

/// A non-linear function of each sample's log-probs and scores, summed over the packs.
Result run(Transformer& model, const std::vector<std::vector<data::Sample>>& packs, bool share) {
  Result result;
  std::vector<at::Tensor> logps;
  for (const auto& pack : packs) {
    const auto layout = layout_of(pack, share);
    if (layout.rows() == 0) continue;
    const auto [slices, places] = parallel::make_pack_tensors(layout);
    const at::Tensor hidden = model.forward(0, slices[0].rows, {});
    const auto out = model.logprobs(hidden, slices[0].head);
    const at::Tensor edge = out.logp.index_select(0, places.edge_score);
    const at::Tensor sums = at::zeros({std::ssize(layout.sample)}, at::kDouble).index_add(0, places.edge_sample, edge);
    (at::tanh(0.3 * sums).sum() + (0.1 * edge).exp().sum()).backward();
    model.backward_input(0, hidden.grad().defined() ? hidden.grad() : at::zeros_like(hidden));
    logps.push_back(edge.detach());
  }
  result.logp = at::cat(logps);
  result.gradient = take_gradients(model);
  return result;
}

void expect_equal(const Result& got, const Result& expected) {
  EXPECT_LT(relative_error(got.logp, expected.logp, 0.0), 1e-12);
  for (const auto& [name, gradient] : expected.gradient)
    EXPECT_LT(relative_error(got.gradient.at(name), gradient, 0.0), 1e-10) << name;
}

class Exactness : public testing::TestWithParam<std::pair<std::string, bool>> {};

TEST_P(Exactness, SharedForestsEqualEachSampleAlone) {
  constexpr uint64_t kSeed = 20261121;
  const auto& [family, tied] = GetParam();
  auto model = make_model(small_config(family, tied), at::kDouble);
  randomize(model, kSeed);
  for (uint64_t trial = 0; trial < 12; ++trial) {
    SCOPED_TRACE("seed " + std::to_string(kSeed) + " trial " + std::to_string(trial));
    Rng rng(kSeed, trial);
    const auto samples = random_forest(rng);
    std::vector<std::vector<data::Sample>> alone;
    for (const auto& sample : samples) alone.push_back({sample});
    const Result expected = run(model, alone, false);
    expect_equal(run(model, {samples}, true), expected);
    expect_equal(run(model, {samples}, false), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Exactness,
                         testing::Values(std::pair<std::string, bool>{"llama", false},
                                         std::pair<std::string, bool>{"qwen2", true},
                                         std::pair<std::string, bool>{"qwen3", false}));

TEST(Exactness, AnotherBranchesTokensChangeNoBitOfOurs) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    auto model = make_model(small_config("llama"), dtype);
    randomize(model, 3);
    const at::NoGradGuard no_grad;
    at::Tensor first;
    for (const int32_t other : {1, 2}) {
      const std::vector<data::Sample> samples{sample_of({5, 6, 7, 8, 9, 10, 11}),
                                              sample_of({5, 6, 7, other, other, 3, 4})};
      const auto layout = layout_of(samples, true);
      const auto [slices, places] = parallel::make_pack_tensors(layout);
      const at::Tensor hidden = model.forward(0, slices[0].rows, {});
      const at::Tensor mine = model.logprobs(hidden, slices[0].head)
                                  .logp.index_select(0, places.edge_score)
                                  .masked_select(places.edge_sample == 0);
      if (!first.defined()) first = mine;
      EXPECT_TRUE(at::equal(mine, first));
    }
  }
}

}  // namespace
}  // namespace fpdist::model
