// Runs that train an MLP which makes a prefix of each context: its gradients are autograd's, and nobody stands behind
// what another context makes.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "src/main/export/export_ntk.hpp"
#include "src/main/export/export_prefix.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/trainer/prefix_runs.hpp"

namespace fpdist::trainer {
namespace {

using test::expect_close, test::expect_words, test::refusal, test::Outcome, test::Tensors;

constexpr int64_t kTokens = 3, kUnits = 5;
const std::vector<std::vector<float>> kContexts{{0.5F, -1, 0.25F}, {-0.75F, 0, 2}};
const std::vector<std::string> kAsWritten{"[0.5, -1, 0.25]", "[-0.75, 0, 2]"};

/// Groups of each context in turn, or of one.
std::vector<data::Group> groups_of(Method method, int only = -1, uint64_t seed = 5) {
  std::vector<data::Group> groups = test::random_groups(method, 6, seed);
  for (data::Group& group : groups)
    group.prefix_context = kContexts[only < 0 ? static_cast<size_t>(group.id % 2) : static_cast<size_t>(only)];
  return groups;
}

class PrefixesByContext : public test::PrefixRuns {
 protected:
  static Config by_context(const std::string& type, Method method = Method::kDpo) {
    Config config = test::tiny_config(method);
    config.adapter = {.type = type, .num_virtual_tokens = kTokens};
    config.adapter.prefix_by = "context", config.adapter.context_dim = 3, config.adapter.encoder_hidden_size = kUnits;
    return config;
  }
};

/// What the MLP makes of a context, in plain torch: parts by the names that a prefix of its own has them by.
Tensors made_of(const Tensors& weight, const std::vector<float>& context, int64_t heads) {
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    return at::matmul(weight.at(name + ".weight"), x) + weight.at(name + ".bias");
  };
  const at::Tensor given = at::tensor(context, at::kFloat).to(at::kDouble);
  const at::Tensor units = at::tanh(linear(given, "model.prefix_encoder.transform.0"));
  const std::string rows = "model.prefix_encoder.transform.2";
  if (weight.contains(rows + ".weight")) return {{"model.prompt_embeddings", linear(units, rows).view({kTokens, -1})}};
  Tensors made;
  for (const auto& [name, unused] : weight) {
    const size_t end = name.find(".weight");
    if (name.find("self_attn.prefix_") == std::string::npos || end == std::string::npos) continue;
    const at::Tensor all = linear(units, name.substr(0, end));
    const int64_t head_dim = all.numel() / heads / kTokens;
    std::vector<at::Tensor> token;  // each of all heads
    for (int64_t t = 0; t < kTokens; ++t) {
      std::vector<at::Tensor> head;
      for (int64_t h = 0; h < heads; ++h) head.push_back(all.narrow(0, (h * kTokens + t) * head_dim, head_dim));
      token.push_back(at::cat(head));
    }
    made[name.substr(0, end)] = at::stack(token);
  }
  return made;
}

/// The gradient of each context's prefix is that of a prefix alone, which PEFT's golden values hold; from there to the
/// MLP's weights it is torch's.
TEST_F(PrefixesByContext, HaveAutogradsGradientsOfTheirMlp) {
  for (const char* type : {"prefix_tuning", "prompt_tuning"}) {
    SCOPED_TRACE(type);
    const Config config = by_context(type, Method::kReward);
    const std::string folder = scratch_ / type;
    Tensors weight;
    int64_t heads = 0;
    with(config, [&](Trainer& trainer) {
      trainer.step(groups_of(config.method, -1, 9));  // away from where it begins
      trainer.save(folder);
      weight = trainer.gather_weights();
      heads = trainer.settled().model.layers[0].attention.kv_heads;
    });
    EXPECT_GT(heads, 1) << "their order is of no account";
    for (auto& [name, value] : weight) value = value.clone().set_requires_grad(true);
    Config all = test::tiny_config(config.method), alone = all;
    all.adapter.path = folder;
    const std::vector<data::Group> groups = groups_of(config.method);
    const Outcome together = step_of(all, groups);
    double loss = 0;
    Tensors score;
    for (size_t c = 0; c < kContexts.size(); ++c) {
      alone.adapter.path = text(folder, "-", c);
      main_program::export_prefix({.from = folder, .to = alone.adapter.path, .dtype = {}, .prefix = kAsWritten[c]});
      expect_words(test::slurp(alone.adapter.path + "/adapter_config.json"),
                   {std::string_view(type) == "prefix_tuning" ? "\"PREFIX_TUNING\"" : "\"PROMPT_TUNING\"",
                    "\"num_virtual_tokens\": 3"});
      std::vector<data::Group> own;
      for (const data::Group& group : groups)
        if (group.prefix_context == kContexts[c]) own.push_back(group);
      const double share = static_cast<double>(own.size()) / static_cast<double>(groups.size());
      Tensors prefix, gradient;
      with(alone, [&](Trainer& trainer) {
        prefix = trainer.gather_weights();
        loss += share * trainer.step(own).values.at("loss");
        gradient = trainer.gather_gradients();
      });
      for (const auto& [name, made] : made_of(weight, kContexts[c], heads)) {
        expect_close(prefix.at(name), made.detach(), name);
        made.backward(share * gradient.at(name), /*retain_graph=*/true);
      }
      const at::Tensor of_head = share * gradient.at("score.weight");
      score["score.weight"] = score.empty() ? of_head : score["score.weight"] + of_head;
    }
    EXPECT_NEAR(together.metrics.at("loss"), loss, 1e-10 * std::abs(loss));
    EXPECT_EQ(together.gradients.size(), weight.size());
    for (const auto& [name, gradient] : together.gradients)
      expect_close(gradient, name == "score.weight" ? score.at(name) : weight.at(name).grad(), name);
  }
}

TEST_F(PrefixesByContext, OfOneContextAreSharedAndOfOthersNot) {
  for (const char* type : {"prefix_tuning", "prompt_tuning"}) {
    SCOPED_TRACE(type);
    Config config = by_context(type);
    const auto groups = groups_of(config.method);
    const Outcome shared = step_of(config, groups);
    for (const bool recomputes : {false, true}) {
      config.pack.share_prefix = recomputes, config.model.gradient_checkpointing = recomputes;
      const Outcome other = step_of(config, groups);
      EXPECT_NEAR(shared.metrics.at("loss"), other.metrics.at("loss"), 1e-10);
      for (const auto& [name, gradient] : other.gradients) expect_close(shared.gradients.at(name), gradient, name);
    }
  }
  const Config config = by_context("prefix_tuning", Method::kSft);
  std::vector<data::Group> groups = groups_of(Method::kSft, 0);
  groups.resize(2), groups[1].sample = groups[0].sample = {groups[0].sample[0]};
  EXPECT_EQ(step_of(config, groups).metrics.at("sharing_ratio"), 2);
  groups[1].prefix_context = kContexts[1];
  EXPECT_EQ(step_of(config, groups).metrics.at("sharing_ratio"), 1);
}

/// Packs without any prefix, in which nothing that is trained has a part.
TEST_F(PrefixesByContext, AreDroppedForGroupsOfAStep) {
  for (const char* type : {"prefix_tuning", "prompt_tuning"}) {
    SCOPED_TRACE(type);
    Config config = by_context(type);
    config.adapter.prefix_drop = 1;
    const auto groups = groups_of(config.method);
    const Outcome bare = step_of(config, groups);
    EXPECT_NEAR(bare.metrics.at("loss"), step_of(test::tiny_config(config.method), groups).metrics.at("loss"), 1e-12);
    for (const auto& [name, gradient] : bare.gradients) EXPECT_EQ(gradient.abs().max().item<double>(), 0) << name;
    config.adapter.prefix_drop = 0.5;
    const Outcome some = step_of(config, groups);
    config.pack.max_tokens = 4096;
    const Outcome whole = step_of(config, groups);
    EXPECT_NEAR(some.metrics.at("loss"), whole.metrics.at("loss"), 1e-12);
    for (const auto& [name, gradient] : whole.gradients) expect_close(some.gradients.at(name), gradient, name);
  }
}

TEST_F(PrefixesByContext, GoOnFromTheirFilesAndBeginAsTorchsLinears) {
  const Config config = by_context("prefix_tuning");
  const std::string folder = scratch_ / "adapter";
  Tensors begun, saved;
  with(config, [&](Trainer& trainer) {
    begun = trainer.gather_weights();
    trainer.step(groups_of(config.method));
    trainer.save(folder);
    saved = trainer.gather_weights();
  });
  for (const auto& [name, weight] : begun) {
    const double bound = weight.dim() < 2 ? 0 : 1 / std::sqrt(static_cast<double>(weight.size(1)));
    const double largest = weight.abs().max().item<double>();
    EXPECT_TRUE(largest <= bound && largest >= 0.5 * bound) << name;
    EXPECT_FALSE(at::equal(saved.at(name), weight)) << name;
  }
  Config on = test::tiny_config(Method::kDpo);
  on.adapter.path = folder;
  with(on, [&](Trainer& trainer) {
    EXPECT_EQ(trainer.settled().config.adapter.context_dim, 3);
    EXPECT_EQ(trainer.settled().config.adapter.encoder_hidden_size, kUnits);
    for (const auto& [name, weight] : trainer.gather_weights()) EXPECT_TRUE(at::equal(saved.at(name), weight)) << name;
    EXPECT_EQ(trainer.step(groups_of(config.method)).values.at("rewards/chosen"), 0) << "its own reference";
  });
  Config zero = config;
  zero.adapter.init_weights = "zero";
  with(zero, [](Trainer& trainer) {
    for (const auto& [name, weight] : trainer.gather_weights())
      EXPECT_EQ(weight.abs().max().item<double>() == 0, name != "model.prefix_encoder.transform.0.weight") << name;
  });
  on.adapter.path = scratch_ / "damaged";
  std::filesystem::copy(folder, on.adapter.path);
  std::string json = test::slurp(on.adapter.path + "/adapter_config.json");
  json.replace(json.find("\"context_dim\": 3"), 16, "\"context_dim\": 4");
  test::spill(on.adapter.path + "/adapter_config.json", json);
  expect_words(fault(on, groups_of(on.method)), {"an adapter of another model", "transform.0.weight is [5, 3]"});
  json.replace(json.find("\"context_dim\": 4"), 16, "\"context_dim\": 0");
  test::spill(on.adapter.path + "/adapter_config.json", json);
  expect_words(fault(on, groups_of(on.method)), {"\"context_dim\" is 0", "1 or more"});
}

TEST_F(PrefixesByContext, RefuseWhatDoesNotFitInOneLine) {
  const auto groups = groups_of(Method::kDpo);
  const Config config = by_context("prefix_tuning");
  std::vector<data::Group> without = groups;
  without[3].prefix_context.clear();
  expect_words(fault(config, without), {"group 3", "context has 0 numbers", "adapter.context_dim is 3"});
  const auto refused = [&](auto change) {
    Config changed = by_context("prompt_tuning");
    change(changed.adapter);
    return fault(changed, groups);
  };
  using Options = arch::AdapterOptions;
  expect_words(refused([](Options& o) { o.context_dim = 0; }), {"adapter.prefix_by is context", "context_dim: 512"});
  expect_words(refused([](Options& o) { o.prefix_values = {"a"}; }), {"prefixes by source", "leave them out"});
  expect_words(refused([](Options& o) { o.prefix_by = "none"; }), {"adapter.context_dim", "prefix_by: context"});
  expect_words(refused([](Options& o) { o.prefix_by = "none", o.context_dim = 0; }), {"adapter.encoder_hidden_size"});
  expect_words(refused([](Options& o) { o.prompt_tuning_init = "SAMPLE_VOCAB"; }), {"an MLP of its own"});
  expect_words(refused([](Options& o) { o.type = "prefix_tuning", o.prefix_projection = true; }),
               {"an MLP of its own"});
  expect_words(refused([](Options& o) { o.type = "cartridge"; }), {"is a key of prefix_tuning or prompt_tuning"});
  Config online = by_context("prefix_tuning", Method::kGrpo);
  online.data.path.clear(), online.rollout.prompts = {"prompts.jsonl"};
  expect_words(refusal<ConfigError>([&] { (void)config::settle(online, 1); }),
               {"adapter.prefix_by", "rollout.prompts have no context"});
  const std::string folder = scratch_ / "adapter";
  with(config, [&](Trainer& trainer) {
    const std::vector<std::vector<int32_t>> prompts{{1, 2}};
    expect_words(refusal<ConfigError>([&] { trainer.check_rollouts(prompts, {}); }), {"prefix_tuning by context"});
    trainer.save(folder);
  });
  expect_words(
      refusal<ConfigError>([&] { main_program::export_ntk({.from = folder, .to = folder + "-ntk", .dtype = {}}); }),
      {"several prefixes", "--prefix"});
  for (const char* prefix : {"web", "[1, 2]", "[1, 2, \"3\"]"})
    expect_words(refusal<ConfigError>([&] {
                   main_program::export_prefix({.from = folder, .to = folder + "-one", .dtype = {}, .prefix = prefix});
                 }),
                 {prefix, "a list of 3 numbers"});
}

}  // namespace
}  // namespace fpdist::trainer
