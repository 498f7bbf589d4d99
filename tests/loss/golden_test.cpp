// Loss, metrics and gradients equal TRL 1.16's on what its own trainers saw (tests/golden/make_loss_golden.py).

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {
namespace {

using Json = nlohmann::json;

Json read(const std::string& name) {
  std::ifstream file(std::string(FPDIST_SOURCE_DIR) + "/tests/golden/" + name);
  EXPECT_TRUE(file.good()) << name;
  return Json::parse(file);
}

at::Tensor tensor_of(const Json& list) { return at::tensor(list.get<std::vector<double>>(), at::kDouble); }

LossOptions options_of(const Json& json) {
  LossOptions options;
  const auto give = [&](const char* name, auto& value) { value = json.value(name, value); };
  give("loss_type", options.loss_type), give("loss_weights", options.loss_weights);
  give("beta", options.beta), give("label_smoothing", options.label_smoothing);
  give("f_divergence_type", options.f_divergence_type);
  give("f_alpha_divergence_coef", options.f_alpha_divergence_coef);
  give("ld_alpha", options.ld_alpha), give("use_weighting", options.use_weighting);
  give("discopop_tau", options.discopop_tau), give("cpo_alpha", options.cpo_alpha);
  give("simpo_gamma", options.simpo_gamma), give("alpha", options.alpha);
  give("desirable_weight", options.desirable_weight), give("undesirable_weight", options.undesirable_weight);
  give("center_rewards_coefficient", options.center_rewards_coefficient);
  give("epsilon", options.epsilon), give("epsilon_high", options.epsilon_high), give("delta", options.delta);
  give("sapo_temperature_pos", options.sapo_temperature_pos);
  give("sapo_temperature_neg", options.sapo_temperature_neg);
  give("importance_sampling_level", options.importance_sampling_level);
  give("scale_rewards", options.scale_rewards), give("use_bias_correction_kl", options.use_bias_correction_kl);
  give("top_entropy_quantile", options.top_entropy_quantile), give("entropy_coef", options.entropy_coef);
  give("off_policy_mask_threshold", options.off_policy_mask_threshold);
  give("max_completion_length", options.max_completion_length);
  return options;
}

/// All samples' values of one column, one after the other; undefined where the file has no such column.
at::Tensor column(const Json& samples, const char* name) {
  if (!samples.front().contains(name)) return {};
  std::vector<at::Tensor> parts;
  for (const Json& sample : samples) parts.push_back(tensor_of(sample.at(name)));
  return at::cat(parts);
}

Edges edges_of(const Json& samples) {
  std::vector<int64_t> sample, position;
  std::vector<double> length, advantage, wanted;
  for (const Json& one : samples) {
    const auto edges = static_cast<int64_t>(one.at("logp").size());
    sample.insert(sample.end(), one.at("logp").size(), static_cast<int64_t>(length.size()));
    for (int64_t e = 0; e < edges; ++e) position.push_back(e - one.value("prompt", int64_t{0}));
    length.push_back(static_cast<double>(edges));
    advantage.push_back(one.value("advantage", 0.0));
    wanted.push_back(one.value("wanted", 0.0));
  }
  Edges edges;
  edges.logp = column(samples, "logp").requires_grad_();
  edges.entropy = column(samples, "entropy");
  edges.correct = column(samples, "correct");
  edges.mean_logit = column(samples, "mean_logit");
  edges.ref_logp = column(samples, "ref_logp");
  edges.old_logp = column(samples, "old_logp");
  edges.sample = at::tensor(sample, at::kLong);
  edges.length = at::tensor(length, at::kDouble);
  edges.advantage = at::tensor(advantage, at::kDouble);
  edges.log_sum_sq = column(samples, "log_sum_sq");
  edges.position = at::tensor(position, at::kLong);
  edges.wanted = at::tensor(wanted, at::kDouble);
  edges.place = at::arange(edges.length.size(0));
  return edges;
}

double value_of(const Metric& metric) {
  const double value = metric.value.item<double>();
  return metric.combine == Combine::kMean ? value / metric.weight.item<double>() : value;
}

/// Every metric of TRL's is ours, but for those that only its generation or its token counter knows.
void expect_metrics(const std::map<std::string, double>& ours, const Json& theirs, double tolerance = 1e-6) {
  for (const auto& [name, value] : theirs.items()) {
    if (name == "num_tokens" || (name == "nll_loss" && value == 0)) continue;  // cpo_alpha 0: TRL takes none
    ASSERT_TRUE(ours.contains(name)) << name;
    EXPECT_NEAR(ours.at(name), value.get<double>(), tolerance) << name;
  }
}

/// All numbers of a list of lists, one after the other.
at::Tensor flat(const Json& parts) {
  std::vector<double> all;
  for (const Json& part : parts) {
    if (part.is_number()) all.push_back(part.get<double>());
    if (part.is_array()) all.insert(all.end(), part.begin(), part.end());
  }
  return at::tensor(all, at::kDouble);
}

void expect_case(const Json& golden, const LossOutput& output, const at::Tensor& leaf,
                 const at::Tensor& entropy = at::Tensor()) {
  const double tolerance = golden.value("tolerance", 1e-9);  // more where TRL rounds to float32
  EXPECT_NEAR(output.loss.item<double>(), golden.at("loss").get<double>(), tolerance);
  std::map<std::string, double> ours;
  for (const auto& [name, metric] : output.metrics) ours[name] = value_of(metric);
  expect_metrics(ours, golden.at("metrics"), std::max(1e-6, 10 * tolerance));
  leaf.mutable_grad() = at::Tensor();
  output.loss.backward();
  const auto expect_gradient = [&](const at::Tensor& of, const at::Tensor& expected) {
    ASSERT_EQ(of.numel(), expected.numel());
    EXPECT_LT((of.grad() - expected).abs().max().item<double>(), tolerance);
  };
  expect_gradient(leaf, flat(golden.at("grad")));
  if (golden.contains("entropy_grad")) expect_gradient(entropy, flat(golden.at("entropy_grad")));
}

/// What a pass ahead of the step would have taken down of these, which are the step's only pack.
void look_ahead(Method method, const LossOptions& options, Edges& edges) {
  edges.step = {};
  if (const Look look = make_look(method, options)) edges.step = look(edges);
  if (edges.step.edge.defined()) edges.step.ascending = std::get<0>(at::sort(edges.step.edge));
}

void expect_file(const std::string& name, Method method) {
  const Json file = read(name);
  ASSERT_FALSE(file.at("cases").empty());
  for (const Json& golden : file.at("cases")) {
    SCOPED_TRACE(golden.at("options").dump());
    const Json& samples = golden.contains("samples") ? golden.at("samples") : file.at("samples");
    Edges edges = edges_of(samples);
    if (golden.contains("entropy_grad")) edges.entropy.requires_grad_();
    plan::StepTotals totals{.groups = edges.length.size(0) / (spec_of(method, {}).group == GroupShape::kPair ? 2 : 4),
                            .samples = edges.length.size(0),
                            .edges = edges.logp.numel()};
    for (size_t b = 0; b < samples.size(); b += 2)
      totals.first_edges += edges.length[static_cast<int64_t>(b)].item<int64_t>();
    totals.wanted = edges.wanted.sum().item<int64_t>();
    const LossOptions options = options_of(golden.at("options"));
    look_ahead(method, options, edges);
    if (method == Method::kKto && edges.step.sample.defined()) {
      const at::Tensor pair = golden.at("sign").get<double>() * flat(file.at("mismatched")).view({-1, 2});
      edges.step.sample = (pair.select(1, 0) - pair.select(1, 1)).unsqueeze(1);
    }
    expect_case(golden, make_loss(method, options)(edges, totals), edges.logp, edges.entropy);
  }
}

TEST(Trl, SftIsEqual) { expect_file("loss_sft.json", Method::kSft); }
TEST(Trl, EveryLossOfPairsIsEqual) { expect_file("loss_dpo.json", Method::kDpo); }
TEST(Trl, KtoIsEqual) { expect_file("loss_kto.json", Method::kKto); }
TEST(Trl, CpoAndSimpoAreEqual) { expect_file("loss_cpo.json", Method::kCpo); }
TEST(Trl, OrpoIsEqual) { expect_file("loss_orpo.json", Method::kOrpo); }
TEST(Trl, EveryPolicyGradientIsEqual) { expect_file("loss_grpo.json", Method::kGrpo); }

TEST(Trl, RewardModelsAreEqual) {
  const Json file = read("loss_reward.json");
  Edges edges;
  edges.score = tensor_of(file.at("scores")).requires_grad_();
  edges.length = at::ones_like(edges.score).detach();
  const plan::StepTotals totals{.groups = edges.score.size(0) / 2, .samples = edges.score.size(0)};
  for (const Json& golden : file.at("cases")) {
    SCOPED_TRACE(golden.at("options").dump() + (golden.contains("margin") ? " with margin" : ""));
    edges.margin = golden.contains("margin") ? tensor_of(golden.at("margin")) : at::Tensor();
    expect_case(golden, make_loss(Method::kReward, options_of(golden.at("options")))(edges, totals), edges.score);
  }
}

TEST(Trl, AdvantagesAndRewardMetricsAreEqual) {
  const Json file = read("trl_advantages.json");
  for (const Json& golden : file.at("cases")) {
    SCOPED_TRACE(golden.at("options").dump());
    std::vector<data::Group> groups;
    for (const Json& rewards : file.at("rewards")) {
      data::Group& group = groups.emplace_back();
      for (const double reward : rewards) group.sample.emplace_back().reward = reward;
    }
    const auto metrics = fill_advantages(groups, options_of(golden.at("options")));
    size_t next = 0;
    for (const data::Group& group : groups)
      for (const data::Sample& sample : group.sample)
        EXPECT_NEAR(*sample.advantage, golden.at("advantages").at(next++).get<double>(), 1e-6);
    for (const char* name : {"reward", "reward_std", "frac_reward_zero_std"})
      EXPECT_NEAR(metrics.at(name), golden.at("metrics").at(name).get<double>(), 1e-6) << name;
  }
}

TEST(Trl, CompletionMetricsAreEqual) {
  const Json file = read("trl_advantages.json");
  data::Group group;
  for (const int length : file.at("lengths")) {
    data::Sample& sample = group.sample.emplace_back();
    sample.token.assign(static_cast<size_t>(length) + 1, 5), sample.target = sample.token;
    sample.truncated = true;  // no completion there ends
  }
  const auto metrics = completion_metrics({&group, 1});
  EXPECT_EQ(metrics.size(), 7U);
  for (const auto& [name, value] : metrics)
    EXPECT_NEAR(value, file.at("cases").at(0).at("metrics").at(name).get<double>(), 1e-6) << name;
}

}  // namespace
}  // namespace fpdist::loss
