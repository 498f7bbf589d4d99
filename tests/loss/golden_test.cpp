// Loss, metrics and gradients equal TRL 1.16's on what its own trainers saw (tests/golden/make_loss_golden.py).

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
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
  options.loss_type = json.value("loss_type", options.loss_type);
  options.importance_sampling_level = json.value("importance_sampling_level", options.importance_sampling_level);
  options.scale_rewards = json.value("scale_rewards", options.scale_rewards);
  options.beta = json.value("beta", options.beta);
  options.epsilon = json.value("epsilon", options.epsilon);
  options.epsilon_high = json.value("epsilon_high", options.epsilon_high);
  options.center_rewards_coefficient = json.value("center_rewards_coefficient", options.center_rewards_coefficient);
  options.use_bias_correction_kl = json.value("use_bias_correction_kl", options.use_bias_correction_kl);
  options.max_completion_length = json.value("max_completion_length", options.max_completion_length);
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
  std::vector<int64_t> sample;
  std::vector<double> length, advantage;
  for (const Json& one : samples) {
    sample.insert(sample.end(), one.at("logp").size(), static_cast<int64_t>(length.size()));
    length.push_back(static_cast<double>(one.at("logp").size()));
    advantage.push_back(one.value("advantage", 0.0));
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
  return edges;
}

double value_of(const Metric& metric) {
  const double value = metric.value.item<double>();
  return metric.combine == Combine::kMean ? value / metric.weight.item<double>() : value;
}

/// Every metric of TRL's is ours, but for those that only its generation or its token counter knows.
void expect_metrics(const std::map<std::string, double>& ours, const Json& theirs) {
  for (const auto& [name, value] : theirs.items()) {
    if (name == "num_tokens") continue;
    ASSERT_TRUE(ours.contains(name)) << name;
    EXPECT_NEAR(ours.at(name), value.get<double>(), 1e-6) << name;
  }
}

void expect_case(const Json& golden, const LossOutput& output, const at::Tensor& leaf) {
  EXPECT_NEAR(output.loss.item<double>(), golden.at("loss").get<double>(), 1e-9);
  std::map<std::string, double> ours;
  for (const auto& [name, metric] : output.metrics) ours[name] = value_of(metric);
  expect_metrics(ours, golden.at("metrics"));
  leaf.mutable_grad() = at::Tensor();
  output.loss.backward();
  std::vector<double> expected;
  for (const Json& part : golden.at("grad")) {
    if (part.is_number()) expected.push_back(part.get<double>());
    if (part.is_array()) expected.insert(expected.end(), part.begin(), part.end());
  }
  ASSERT_EQ(leaf.numel(), static_cast<int64_t>(expected.size()));
  EXPECT_LT((leaf.grad() - at::tensor(expected, at::kDouble)).abs().max().item<double>(), 1e-9);
}

void expect_file(const std::string& name, Method method) {
  const Json file = read(name);
  const Edges edges = edges_of(file.at("samples"));
  const plan::StepTotals totals{
      .groups = edges.length.size(0) / (spec_of(method, {}).group == GroupShape::kPair ? 2 : 4),
      .samples = edges.length.size(0),
      .edges = edges.logp.numel()};
  ASSERT_FALSE(file.at("cases").empty());
  for (const Json& golden : file.at("cases")) {
    SCOPED_TRACE(golden.at("options").dump());
    expect_case(golden, make_loss(method, options_of(golden.at("options")))(edges, totals), edges.logp);
  }
}

TEST(Trl, SftIsEqual) { expect_file("loss_sft.json", Method::kSft); }
TEST(Trl, DpoIsEqual) { expect_file("loss_dpo.json", Method::kDpo); }
TEST(Trl, GrpoDapoDrGrpoAndGspoAreEqual) { expect_file("loss_grpo.json", Method::kGrpo); }

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
