// Prefix-RFT: advantages, loss and gradients equal its formulas, taken a token at a time
// (tests/golden/make_prefix_rft_golden.py).

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {
namespace {

using Json = nlohmann::json;
using Doubles = std::vector<double>;

Json golden() {
  std::ifstream file(std::string(FPDIST_SOURCE_DIR) + "/tests/golden/prefix_rft.json");
  EXPECT_TRUE(file.good());
  return Json::parse(file);
}

LossOptions options_of(const Json& json) {
  return {.loss_type = json.at("loss_type"),
          .prefix_advantage = json.at("prefix_advantage"),
          .prefix_entropy_keep = json.at("prefix_entropy_keep"),
          .prefix_entropy_scope = json.at("prefix_entropy_scope"),
          .clip_prefix = json.at("clip_prefix"),
          .max_completion_length = json.at("max_completion_length")};
}

/// The groups as rows give them: a prompt of two tokens, a demonstration's, what was written.
std::vector<data::Group> groups_of(const Json& all) {
  std::vector<data::Group> groups;
  for (const Json& samples : all) {
    data::Group& group = groups.emplace_back();
    for (const Json& one : samples) {
      data::Sample& sample = group.sample.emplace_back();
      const auto prefix = one.at("prefix").get<std::vector<int32_t>>();
      sample.token = {1, 2};
      sample.prompt_length = 2, sample.prefix_length = static_cast<int32_t>(prefix.size());
      sample.token.insert(sample.token.end(), prefix.begin(), prefix.end());
      sample.token.resize(2 + one.at("logp").size(), static_cast<int32_t>(60 + group.sample.size()));
      sample.reward = one.at("reward").get<double>();
    }
  }
  return groups;
}

/// What the losses see of samples [first, last) of all.
struct StepOfGroups {
  StepOfGroups(const Json& groups, const std::vector<data::Group>& filled) {
    for (size_t g = 0; g < filled.size(); ++g)
      for (size_t s = 0; s < filled[g].sample.size(); ++s) add(groups.at(g).at(s), filled[g].sample[s]);
  }

  Edges edges(const at::Tensor& of_logp, size_t first, size_t last) const {
    const auto begin = static_cast<int64_t>(first_edge[first]), count = static_cast<int64_t>(first_edge[last]) - begin;
    const auto part = [&](const Doubles& values) { return at::tensor(values, at::kDouble).narrow(0, begin, count); };
    const auto part_of_samples = [&](const Doubles& values) {
      return at::tensor(Doubles(values.begin() + static_cast<std::ptrdiff_t>(first),
                                values.begin() + static_cast<std::ptrdiff_t>(last)),
                        at::kDouble);
    };
    Edges edges;
    edges.logp = of_logp.narrow(0, begin, count);
    edges.old_logp = part(old_logp), edges.entropy = part(entropy), edges.in_prefix = part(in_prefix);
    edges.sample = at::tensor(sample, at::kLong).narrow(0, begin, count) - static_cast<int64_t>(first);
    edges.length = part_of_samples(length);
    edges.advantage = part_of_samples(advantage), edges.prefix_advantage = part_of_samples(prefix_advantage);
    edges.first_edge = begin;
    return edges;
  }

  Doubles logp, old_logp, entropy, in_prefix, length, advantage, prefix_advantage;
  std::vector<int64_t> sample;
  std::vector<size_t> first_edge{0};

 private:
  void add(const Json& one, const data::Sample& filled) {
    const auto put = [&](Doubles& values, const char* name) {
      for (const Json& value : one.at(name)) values.push_back(value);
    };
    put(logp, "logp"), put(old_logp, "old_logp"), put(entropy, "entropy");
    const size_t count = one.at("logp").size();
    for (size_t t = 0; t < count; ++t) {
      in_prefix.push_back(static_cast<int32_t>(t) < filled.prefix_length ? 1 : 0);
      sample.push_back(static_cast<int64_t>(length.size()));
    }
    length.push_back(static_cast<double>(count)), first_edge.push_back(logp.size());
    advantage.push_back(*filled.advantage);
    prefix_advantage.push_back(filled.prefix_advantage.value_or(*filled.advantage));
  }
};

TEST(PrefixRft, AdvantagesAreTheFormulas) {
  const Json file = golden();
  for (const Json& one : file.at("cases")) {
    SCOPED_TRACE(one.at("options").dump());
    std::vector<data::Group> groups = groups_of(file.at("groups"));
    EXPECT_EQ(fill_advantages(groups, options_of(one.at("options"))).count("reward_std"), 1U);
    size_t next = 0;
    for (const data::Group& group : groups)
      for (const data::Sample& sample : group.sample) {
        EXPECT_NEAR(*sample.advantage, one.at("advantages").at(next).get<double>(), 1e-12) << next;
        const Json& given = one.at("prefix_advantages").at(next++);
        ASSERT_EQ(sample.prefix_advantage.has_value(), !given.is_null());
        if (given.is_null()) continue;
        EXPECT_NEAR(*sample.prefix_advantage, given.get<double>(), 1e-12) << next;
      }
  }
}

TEST(PrefixRft, AdvantagesThatWereGivenStay) {
  std::vector<data::Group> groups = groups_of(golden().at("groups"));
  groups[0].sample[0].advantage = 7, groups[0].sample.back().advantage = 5;
  fill_advantages(groups, {.prefix_advantage = "dr_grpo"});
  EXPECT_EQ(groups[0].sample[0].advantage, 7);
  EXPECT_EQ(groups[0].sample.back().advantage, 5);
  EXPECT_EQ(groups[0].sample.back().prefix_advantage, std::nullopt) << "as the completion's";
}

TEST(PrefixRft, LossAndGradientsAreTheFormulasHoweverTheStepIsCut) {
  const Json file = golden();
  for (const Json& one : file.at("cases")) {
    SCOPED_TRACE(one.at("options").dump());
    const LossOptions options = options_of(one.at("options"));
    std::vector<data::Group> groups = groups_of(file.at("groups"));
    fill_advantages(groups, options);
    const StepOfGroups step(file.at("groups"), groups);
    const at::Tensor logp = at::tensor(step.logp, at::kDouble).requires_grad_();
    const size_t samples = step.length.size();
    View whole;
    if (const Look look = make_look(Method::kGrpo, options)) {
      whole = look(step.edges(logp, 0, samples));
      whole.ascending = std::get<0>(at::sort(whole.edge));
    }
    Doubles gradients;
    for (const Json& of_sample : one.at("grad")) gradients.insert(gradients.end(), of_sample.begin(), of_sample.end());
    for (const size_t cut : {samples, size_t{1}, size_t{5}, samples - 2}) {
      SCOPED_TRACE(cut);
      at::Tensor loss = at::zeros({}, at::kDouble);
      for (const auto& [first, last] : {std::pair{size_t{0}, cut}, {cut, samples}}) {
        Edges edges = step.edges(logp, first, last);
        edges.step = whole;
        const plan::StepTotals totals{.groups = std::ssize(groups),
                                      .samples = static_cast<int64_t>(samples),
                                      .edges = static_cast<int64_t>(step.logp.size())};
        loss = loss + make_loss(Method::kGrpo, options)(edges, totals).loss;
      }
      EXPECT_NEAR(loss.item<double>(), one.at("loss").get<double>(), 1e-12);
      logp.mutable_grad() = at::Tensor();
      loss.backward();
      EXPECT_LT((logp.grad() - at::tensor(gradients, at::kDouble)).abs().max().item<double>(), 1e-12);
    }
  }
}

/// Rollouts of one demonstration have its tokens each; the last bits of their entropies depend on the pack.
TEST(PrefixRft, CopiesOfATokenCountAlikeWhateverTheirLastBits) {
  Edges edges;
  edges.logp = at::zeros({4}, at::kDouble);
  edges.entropy = at::tensor({2.0, 2.0 - 1e-15, 1.0, 0.5}, at::kDouble);
  edges.in_prefix = at::ones({4}, at::kDouble);
  edges.sample = at::arange(4);
  edges.length = at::ones({4}, at::kDouble);
  edges.advantage = edges.prefix_advantage = at::ones({4}, at::kDouble);
  const LossOptions options{.prefix_advantage = "dr_grpo", .prefix_entropy_keep = 0.25};
  edges.step = make_look(Method::kGrpo, options)(edges);
  edges.step.ascending = std::get<0>(at::sort(edges.step.edge));
  const LossOutput output = make_loss(Method::kGrpo, options)(edges, {.samples = 4, .edges = 4});
  EXPECT_DOUBLE_EQ(output.loss.item<double>(), -0.5);
  EXPECT_DOUBLE_EQ(output.metrics.at("prefix/kept").value.item<double>(), 2);
}

}  // namespace
}  // namespace fpdist::loss
