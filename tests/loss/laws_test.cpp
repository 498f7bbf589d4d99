// Laws of every loss: gradients are right, and it does not matter how a step is cut into packs.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/loss/random_step.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::loss {
namespace {

using test::all_variants, test::PackMetrics, test::random_step, test::RandomStep, test::Variant;

at::Tensor& leaf_of(RandomStep& step, Method method) { return method == Method::kReward ? step.score : step.logp; }

at::Tensor gradient(RandomStep& step, Method method, const at::Tensor& loss) {
  at::Tensor& leaf = leaf_of(step, method);
  leaf.mutable_grad() = at::Tensor();
  loss.backward();
  return leaf.grad().clone();
}

/// The largest difference of two tensors, relative to the largest entry.
double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-300)).item<double>();
}

class EveryLoss : public ::testing::TestWithParam<Variant> {};

/// Whether it weighs its terms with something of the policy that has no gradient: then it is no gradient of its value.
bool stops_gradients(const LossOptions& options) {
  return options.use_weighting || options.loss_type == std::vector<std::string>{"cispo"};
}

TEST_P(EveryLoss, HasTheGradientOfFiniteDifferences) {
  if (stops_gradients(GetParam().options)) return;  // they are held against TRL's
  const LossFunction loss = make_loss(GetParam().method, GetParam().options);
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(text("seed ", seed));
    RandomStep step = random_step(seed);
    const auto value = [&] { return loss(step.pack(step.everything(), GetParam()), step.totals).loss; };
    const at::Tensor grad = gradient(step, GetParam().method, value());
    at::Tensor values = leaf_of(step, GetParam().method).detach();
    constexpr double kStep = 1e-6;
    for (int64_t i = 0; i < values.numel(); ++i) {
      const double here = values[i].item<double>();
      values[i].fill_(here + kStep);
      const double above = value().item<double>();
      values[i].fill_(here - kStep);
      const double below = value().item<double>();
      values[i].fill_(here);
      ASSERT_NEAR(grad[i].item<double>(), (above - below) / (2 * kStep), 1e-8) << "entry " << i;
    }
  }
}

TEST_P(EveryLoss, IsTheSameHoweverAStepIsCutIntoPacks) {
  const Method method = GetParam().method;
  const LossFunction loss = make_loss(method, GetParam().options);
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(text("seed ", seed));
    RandomStep step = random_step(seed, 1 + static_cast<int64_t>(seed));
    const LossOutput whole = loss(step.pack(step.everything(), GetParam()), step.totals);
    const at::Tensor whole_grad = gradient(step, method, whole.loss);
    PackMetrics whole_metrics, cut_metrics;
    whole_metrics.add(whole.metrics);

    Rng rng(seed, 7);
    const int64_t unit = spec_of(method, GetParam().options).group == GroupShape::kPair ? 2 : 1;
    std::vector<std::vector<int64_t>> packs(4);  // some of them empty, as on a rank without packs
    for (int64_t first = 0; first < step.samples(); first += unit) {
      std::vector<int64_t>& pack = packs[rng.below(packs.size())];
      for (int64_t b = first; b < first + unit; ++b) pack.push_back(b);
    }
    at::Tensor cut = at::zeros({}, at::kDouble);
    for (const std::vector<int64_t>& pack : packs) {
      const LossOutput share = loss(step.pack(pack, GetParam()), step.totals);
      cut = cut + share.loss;
      cut_metrics.add(share.metrics);
    }
    EXPECT_NEAR(cut.item<double>(), whole.loss.item<double>(), 1e-13);
    EXPECT_LT(distance(gradient(step, method, cut), whole_grad), 1e-13);
    const auto expected = whole_metrics.values(), got = cut_metrics.values();
    ASSERT_EQ(got.size(), expected.size());
    for (const auto& [name, value] : expected) EXPECT_NEAR(got.at(name), value, 1e-12) << name;
  }
}

TEST_P(EveryLoss, OfAnEmptyPackIsZeroUnderTheSameNames) {
  const LossFunction loss = make_loss(GetParam().method, GetParam().options);
  const RandomStep step = random_step(1);
  const LossOutput full = loss(step.pack(step.everything(), GetParam()), step.totals),
                   empty = loss(step.pack({}, GetParam()), step.totals);
  EXPECT_EQ(empty.loss.dim(), 0);
  EXPECT_EQ(empty.loss.item<double>(), 0.0);
  ASSERT_EQ(empty.metrics.size(), full.metrics.size());
  for (const auto& [name, metric] : full.metrics) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(empty.metrics.contains(name));
    const Metric& none = empty.metrics.at(name);
    EXPECT_EQ(none.combine, metric.combine);
    const double value = none.value.item<double>();
    const bool is_sum = none.combine == Combine::kMean || none.combine == Combine::kSum;
    EXPECT_EQ(value, is_sum ? 0.0 : none.combine == Combine::kMin ? INFINITY : -INFINITY);
    EXPECT_EQ(none.combine == Combine::kMean ? none.weight.item<double>() : 0.0, 0.0);
    EXPECT_FALSE(metric.value.requires_grad());
  }
  // A step without any edge is a step of loss 0 (or log 2 a pair), never 0/0.
  EXPECT_TRUE(std::isfinite(loss(step.pack({}, GetParam()), {}).loss.item<double>()));
}

TEST_P(EveryLoss, InFloat32FollowsFloat64) {
  const LossFunction loss = make_loss(GetParam().method, GetParam().options);
  RandomStep wide = random_step(5), narrow = random_step(5, 4, at::kFloat);
  const LossOutput expected = loss(wide.pack(wide.everything(), GetParam()), wide.totals);
  const LossOutput got = loss(narrow.pack(narrow.everything(), GetParam()), narrow.totals);
  EXPECT_EQ(got.loss.scalar_type(), at::kFloat);
  EXPECT_NEAR(got.loss.item<double>(), expected.loss.item<double>(), 1e-5);
  EXPECT_LT(distance(gradient(narrow, GetParam().method, got.loss).to(at::kDouble),
                     gradient(wide, GetParam().method, expected.loss)),
            1e-4);
}

std::string test_name(const ::testing::TestParamInfo<Variant>& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Losses, EveryLoss, ::testing::ValuesIn(all_variants()), test_name);

TEST_P(EveryLoss, WeightsMultiplyItsTerms) {
  const Method method = GetParam().method;
  if (method == Method::kKto) return;  // has its own, in the options
  const LossFunction loss = make_loss(method, GetParam().options);
  const bool is_pair = spec_of(method, GetParam().options).group == GroupShape::kPair;
  const RandomStep step = random_step(4);
  std::vector<double> weights;
  double wanted = 0;
  for (int64_t first = 0; first < step.samples(); first += is_pair ? 2 : 1) {
    weights.push_back(0.25 * static_cast<double>(first % 5));
    const std::vector<int64_t> part = is_pair ? std::vector<int64_t>{first, first + 1} : std::vector<int64_t>{first};
    wanted += weights.back() * loss(step.pack(part, GetParam()), step.totals).loss.item<double>();
  }
  Edges all = step.pack(step.everything(), GetParam());
  const at::Tensor each = at::tensor(weights, at::kDouble);
  (is_pair ? all.pair_weight : all.weight) = is_pair ? each : each.index_select(0, all.sample);
  EXPECT_NEAR(loss(all, step.totals).loss.item<double>(), wanted, 1e-12);
}

TEST(SharedScores, GiveTheLossAndGradientsOfSeparateOnes) {
  for (const Variant& variant : all_variants()) {
    if (variant.method == Method::kReward) continue;
    SCOPED_TRACE(variant.name);
    const LossFunction loss = make_loss(variant.method, variant.options);
    RandomStep step = random_step(3);
    // The first edges of all samples (with advantages of both signs) read one and the same score.
    std::vector<int64_t> score_of(static_cast<size_t>(step.totals.edges));
    for (size_t e = 0; e < score_of.size(); ++e) score_of[e] = static_cast<int64_t>(e);
    for (const std::vector<int64_t>& own : step.edge_of)
      if (!own.empty()) score_of[static_cast<size_t>(own.front())] = 0;
    const at::Tensor edge_score = at::tensor(score_of, at::kLong);

    at::Tensor scores = step.logp.detach().clone().requires_grad_();
    const at::Tensor separate = scores.detach().index_select(0, edge_score).requires_grad_();
    Edges edges = step.pack(step.everything(), variant);
    const auto put = [&](const at::Tensor& logp) { edges.logp = logp, edges.base_kl = logp.square(); };
    put(scores.index_select(0, edge_score));
    const at::Tensor shared_loss = loss(edges, step.totals).loss;
    shared_loss.backward();
    put(separate);
    const at::Tensor separate_loss = loss(edges, step.totals).loss;
    separate_loss.backward();
    EXPECT_EQ(shared_loss.item<double>(), separate_loss.item<double>());
    const at::Tensor added = at::zeros_like(scores).index_add(0, edge_score, separate.grad());
    EXPECT_LT(distance(scores.grad(), added), 1e-14);
  }
}

/// Rows that several samples share are computed once or once each, which is not the same to the last bit.
TEST(Grpo, TokensOfOneEntropyCountTogetherHoweverItIsRounded) {
  const Variant variant{"top", Method::kGrpo, {.top_entropy_quantile = 0.5}};
  const LossFunction loss = make_loss(Method::kGrpo, variant.options);
  RandomStep even = random_step(6), rounded = even;
  const int64_t ties = even.entropy.numel() * 3 / 4;  // the quantile is among them
  even.entropy.narrow(0, 0, ties).fill_(1.5), even.entropy.narrow(0, ties, even.entropy.numel() - ties).fill_(0.5);
  rounded.entropy = even.entropy + 1e-15 * at::arange(even.entropy.numel(), at::kDouble);
  const auto of = [&](const RandomStep& step) {
    return loss(step.pack(step.everything(), variant), step.totals).loss.item<double>();
  };
  EXPECT_NEAR(of(rounded), of(even), 1e-12);
}

TEST(Grpo, WithoutOldLogProbsIsOnPolicy) {
  for (const Variant& variant : all_variants()) {
    if (variant.method != Method::kGrpo) continue;
    SCOPED_TRACE(variant.name);
    const LossFunction loss = make_loss(variant.method, variant.options);
    RandomStep step = random_step(4);
    step.old_logp = step.logp.detach().clone();
    const LossOutput given = loss(step.pack(step.everything(), variant), step.totals);
    const at::Tensor given_grad = gradient(step, Method::kGrpo, given.loss);
    step.old_logp = at::Tensor();
    const LossOutput own = loss(step.pack(step.everything(), variant), step.totals);
    EXPECT_EQ(own.loss.item<double>(), given.loss.item<double>());
    EXPECT_TRUE(gradient(step, Method::kGrpo, own.loss).equal(given_grad));
    for (const char* held : {"clip_ratio/region_mean", "cispo_clip_ratio"})
      EXPECT_TRUE(!own.metrics.contains(held) || own.metrics.at(held).value.item<double>() == 0.0) << held;
  }
}

TEST(Grpo, BySequenceIsByTokenForSamplesOfOneToken) {
  RandomStep step = random_step(6);
  step.edge_of.clear();
  for (int64_t b = 0; b < step.totals.samples; ++b) step.edge_of.push_back({b});
  step.totals.edges = step.totals.samples;
  LossOptions options{.loss_type = {"grpo"}, .beta = 0.2};
  const LossFunction by_token = make_loss(Method::kGrpo, options);
  options.importance_sampling_level = "sequence";
  const LossFunction by_sequence = make_loss(Method::kGrpo, options);
  const loss::Edges edges = step.pack(step.everything());
  EXPECT_DOUBLE_EQ(by_token(edges, step.totals).loss.item<double>(),
                   by_sequence(edges, step.totals).loss.item<double>());
}

TEST(Grpo, ClipsPerSampleWhereSamplesShareAToken) {
  // One token, sampled by two rollouts at a ratio above the clip: only the one with a negative advantage learns from
  // it.
  at::Tensor score = at::zeros({1}, at::kDouble).requires_grad_();
  Edges edges;
  edges.logp = score.index_select(0, at::zeros({2}, at::kLong));
  edges.old_logp = at::full({2}, -1.0, at::kDouble);
  edges.entropy = at::zeros({2}, at::kDouble);
  edges.sample = at::arange(2);
  edges.length = at::ones({2}, at::kDouble);
  edges.advantage = at::tensor({1.0, -1.0}, at::kDouble);
  const LossOutput output = make_loss(Method::kGrpo, {})(edges, {.groups = 1, .samples = 2, .edges = 2});
  EXPECT_DOUBLE_EQ(output.loss.item<double>(), (-1.2 + std::exp(1.0)) / 2);
  output.loss.backward();
  EXPECT_DOUBLE_EQ(score.grad()[0].item<double>(), std::exp(1.0) / 2);
  EXPECT_EQ(output.metrics.at("clip_ratio/high_mean").value.item<double>(), 1.0);  // of 2 edges
  EXPECT_EQ(output.metrics.at("clip_ratio/high_max").value.item<double>(), 1.0);
}

TEST(Grpo, SamplesWithoutTokensHaveNoShareOfClippedTokens) {
  Edges edges;
  edges.logp = at::zeros({1}, at::kDouble);
  edges.old_logp = at::ones({1}, at::kDouble);  // a ratio below the clip, and an advantage that would push it lower
  edges.entropy = at::zeros({1}, at::kDouble);
  edges.sample = at::zeros({1}, at::kLong);
  edges.length = at::tensor({1.0, 0.0}, at::kDouble);
  edges.advantage = at::tensor({-1.0, -1.0}, at::kDouble);
  const LossOutput output = make_loss(Method::kGrpo, {})(edges, {.groups = 1, .samples = 2, .edges = 1});
  EXPECT_EQ(output.metrics.at("clip_ratio/low_min").value.item<double>(), 1.0);
}

TEST(Losses, NameTheTensorThatIsMissingOrMisshapen) {
  const RandomStep step = random_step(1);
  const auto message = [&](Method method, auto spoil, LossOptions options = {}) -> std::string {
    Edges edges = step.pack(step.everything());
    spoil(edges);
    return test::refusal<ShapeError>([&] { make_loss(method, options)(edges, step.totals); });
  };
  EXPECT_EQ(message(Method::kDpo, [](Edges& e) { e.ref_logp.reset(); }),
            "the dpo loss needs edges.ref_logp, which is undefined");
  EXPECT_EQ(message(Method::kSft, [](Edges& e) { e.logp.reset(); }),
            "the sft loss needs edges.logp, which is undefined");
  EXPECT_EQ(message(Method::kReward, [](Edges& e) { e.score.reset(); }),
            "the reward loss needs edges.score, which is undefined");
  EXPECT_EQ(message(Method::kGrpo, [](Edges& e) { e.ref_logp.reset(); }, {.beta = 0.1}),
            "the grpo loss needs edges.ref_logp, which is undefined");
  EXPECT_EQ(message(Method::kGrpo, [](Edges& e) { e.ref_logp.reset(); }), "accepted");
  EXPECT_EQ(message(Method::kGrpo, [](Edges& e) { e.advantage = at::zeros({3}, at::kDouble); }),
            "the grpo loss needs edges.advantage of shape [8], got [3]");
}

/// Of our own, so that no golden value holds it.
TEST(Comparative, IsAHingeOfMeansTheLikelihoodOfTheChosenAndTheWayFromTheReference) {
  RandomStep step = random_step(4);
  const LossOptions options{.loss_type = {"comparative"}, .cpo_alpha = 0.7, .simpo_gamma = 0.3, .kl_weight = 0.2};
  const Variant variant{"comparative", Method::kCpo, options};
  double ranked = 0, unlikely = 0;
  const auto sum_of = [&](size_t sample) {
    double sum = 0;
    for (const int64_t edge : step.edge_of[sample]) sum += step.logp[edge].item<double>();
    return sum;
  };
  const auto mean_of_tokens = [&](size_t sample) {
    return sum_of(sample) / std::max(1.0, static_cast<double>(step.edge_of[sample].size()));
  };
  for (size_t chosen = 0; chosen < step.edge_of.size(); chosen += 2) {
    ranked += std::max(0.0, 0.3 - (mean_of_tokens(chosen) - mean_of_tokens(chosen + 1)));
    unlikely -= sum_of(chosen);
  }
  const Edges all = step.pack(step.everything(), variant);
  const double wanted = ranked / static_cast<double>(step.totals.groups) +
                        0.7 * unlikely / static_cast<double>(step.totals.first_edges) +
                        0.2 * all.base_kl.mean().item<double>();
  const LossOutput got = make_loss(Method::kCpo, options)(all, step.totals);
  EXPECT_NEAR(got.loss.item<double>(), wanted, 1e-12);
  EXPECT_NEAR((got.metrics.at("kl").value / got.metrics.at("kl").weight).item<double>(),
              all.base_kl.mean().item<double>(), 1e-12);
}

}  // namespace
}  // namespace fpdist::loss
