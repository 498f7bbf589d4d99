// Runs that train an adapter beside frozen weights: where they begin, what they write, how they go on.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/main/export/export_ntk.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/trainer/run/runs.hpp"

namespace fpdist::trainer {
namespace {

using checkpoint::HfDirectory;
using test::expect_words, test::refusal;

class AdapterRuns : public test::Runs {
 protected:
  AdapterRuns() {
    config_.adapter.type = "lora", config_.adapter.r = 4, config_.adapter.lora_alpha = 6;
    config_.adapter.target_modules = {"q_proj", "down_proj"};
  }
  /// `look` at a trainer of one rank that has done `steps` steps.
  template <typename Look>
  void after(const Config& config, int steps, Look look) {
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      std::map<std::string, double> last;
      for (int s = 0; s < steps; ++s)
        last = trainer.step(test::random_groups(config.method, 5, static_cast<uint64_t>(s))).values;
      look(trainer, last);
    });
  }
  std::map<std::string, double> step_of(const Config& config, int step = 1) {
    std::map<std::string, double> metrics;
    after(config, step, [&](Trainer&, const auto& last) { metrics = last; });
    return metrics;
  }
  std::string fault(const Config& config) {
    return refusal<Error>([&] { after(config, 0, [](Trainer&, const auto&) {}); });
  }
  std::string saved(const Config& config, int steps, const std::string& name) {
    after(config, steps, [&](Trainer& trainer, const auto&) { trainer.save(scratch_ / name); });
    return scratch_ / name;
  }
};

TEST_F(AdapterRuns, BeginAtTheModelAndTrainNothingElse) {
  for (const Method method : {Method::kSft, Method::kDpo, Method::kGrpo}) {
    Config config = test::tiny_config(method), whole = config;
    config.adapter = config_.adapter;
    const auto one = step_of(config), other = step_of(whole);
    EXPECT_EQ(one.at("loss"), other.at("loss")) << name_of(method);
    EXPECT_NE(step_of(config, 2).at("loss"), step_of(whole, 2).at("loss"));
    Config dropping = config;  // of magnitudes too: what is dropped passes the model's own weight all the same
    dropping.adapter.use_dora = true, dropping.adapter.lora_dropout = 0.5;
    EXPECT_NEAR(step_of(dropping).at("loss"), other.at("loss"), 1e-10) << name_of(method);
    after(config, 2, [](Trainer& trainer, const auto&) {
      const auto& parameters = trainer.parameters().parameters();
      EXPECT_EQ(parameters.size(), 2 * trainer.settled().model.adapter.linear.size());
      int64_t elements = 0;
      for (const auto& [name, shape] : arch::trained_parameters(trainer.settled().model, Head::kLanguageModel))
        elements += shape[0] * shape[1];
      EXPECT_EQ(trainer.parameters().size(), elements);  // main grads, masters and moments are of these alone
      for (const auto& [name, weight] : trainer.gather_weights()) EXPECT_GT(weight.norm().item().toDouble(), 0) << name;
    });
  }
}

TEST_F(AdapterRuns, TheReferenceIsTheModelWithoutItOrTheOneGoneOnFrom) {
  Config away = config_;
  away.adapter.init_lora_weights = "false";  // the adapter is not the identity
  EXPECT_NE(step_of(away).at("rewards/chosen"), 0);
  const std::string folder = saved(away, 2, "adapter");
  Config on = test::tiny_config(Method::kDpo);
  on.adapter.path = folder;
  EXPECT_EQ(step_of(on).at("rewards/chosen"), 0);  // as TRL has it: the adapter as it was read
  EXPECT_NE(step_of(on, 2).at("rewards/chosen"), 0);
}

/// The loss's divergence is from the model without the adapter, over the vocabulary, wherever a token counts.
TEST_F(AdapterRuns, AreHeldByTheWholeDistributionOfTheModelWithoutThem) {
  Config config = test::tiny_config(Method::kCpo);
  config.adapter = config_.adapter, config.adapter.init_lora_weights = "false";
  config.loss.loss_type = {"comparative"}, config.loss.kl_weight = 1;
  const auto groups = test::random_groups(config.method, 3, 8);
  std::map<std::string, double> seen;
  after(config, 0, [&](Trainer& trainer, const auto&) { seen = trainer.evaluate(groups).values; });
  model::Transformer policy(config::settle(config, 1).model, {.dtype = at::kDouble});
  policy.initialize(config.model.seed);
  const auto base = policy.frozen(/*keeps_adapter=*/false);
  const at::NoGradGuard no_grad;
  double sum = 0, count = 0;
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample) {
      const auto rows = parallel::make_pack_tensors(test::layout_of({sample}, true)).slice.front().rows;
      const auto says = [&](model::Transformer& model) {
        return at::log_softmax(model.logits(model.forward(0, rows, {})), 1);
      };
      const at::Tensor p = says(*base), q = says(policy), kl = (p.exp() * (p - q)).sum(1);
      for (int64_t t = 1; t < sample.length(); ++t)
        if (sample.target[static_cast<size_t>(t)] != data::kIgnore) sum += kl[t - 1].item<double>(), ++count;
    }
  EXPECT_GT(sum / count, 1e-3);
  EXPECT_NEAR(seen.at("eval_kl"), sum / count, 1e-10);
  config.adapter.init_lora_weights = "true";
  after(config, 0, [&](Trainer& trainer, const auto&) { seen = trainer.evaluate(groups).values; });
  EXPECT_NEAR(seen.at("eval_kl"), 0, 1e-12);
}

TEST_F(AdapterRuns, DropTheSameOfAPrefixSharedOrNotAndNothingElsewhere) {
  for (const bool dora : {false, true}) {
    Config config = config_;
    config.adapter.use_dora = dora, config.adapter.lora_dropout = 0.25, config.adapter.init_lora_weights = "false";
    Config alone = config;
    alone.pack.share_prefix = false, alone.pack.max_tokens = 48, alone.model.gradient_checkpointing = true;
    std::map<std::string, at::Tensor> shared, unshared;
    std::map<std::string, double> of_shared, of_unshared;
    after(config, 2, [&](Trainer& trainer, const auto& last) { shared = trainer.gather_weights(), of_shared = last; });
    after(alone, 2,
          [&](Trainer& trainer, const auto& last) { unshared = trainer.gather_weights(), of_unshared = last; });
    EXPECT_NEAR(of_shared.at("loss"), of_unshared.at("loss"), 1e-10);
    EXPECT_NEAR(of_shared.at("grad_norm"), of_unshared.at("grad_norm"), 1e-10 * of_shared.at("grad_norm"));
    for (const auto& [name, weight] : shared)
      EXPECT_LT((weight - unshared.at(name)).abs().max().item<double>(), 1e-10) << name;

    Config other = config, none = config;
    other.train.seed = 1, none.adapter.lora_dropout = 0;
    EXPECT_NE(step_of(other).at("loss"), step_of(config).at("loss"));
    EXPECT_NE(step_of(none).at("loss"), step_of(config).at("loss"));
    const auto groups = test::random_groups(config.method, 3, 8);
    std::map<std::string, double> dropping, whole;
    after(config, 0, [&](Trainer& trainer, const auto&) { dropping = trainer.evaluate(groups).values; });
    after(none, 0, [&](Trainer& trainer, const auto&) { whole = trainer.evaluate(groups).values; });
    EXPECT_EQ(dropping.at("eval_loss"), whole.at("eval_loss"));
  }
}

/// Two rows of one depth behind different tokens must not share a mask: what decides is the path's key.
TEST_F(AdapterRuns, DropByThePathAndNotByTheDepth) {
  Config config = config_;
  config.adapter.lora_dropout = 0.5, config.adapter.init_lora_weights = "false";
  model::Transformer model(config::settle(config, 1).model, {.dtype = at::kDouble});
  model.initialize(3);
  model.set_masks(7);
  const at::NoGradGuard no_grad;
  const std::vector<data::Sample> samples{test::sample_of({3, 1, 4, 1, 5})};
  parallel::RowsHere rows = parallel::make_pack_tensors(test::layout_of(samples, true)).slice.front().rows;
  const auto with_last = [&](int64_t key) {
    rows.key = at::tensor(std::vector<int64_t>{11, 12, 13, 14, key}, at::kLong);
    return model.forward(0, rows, {}).clone();
  };
  const at::Tensor one = with_last(15), other = with_last(16);
  EXPECT_TRUE(at::equal(one, with_last(15)));
  EXPECT_TRUE(at::equal(one.narrow(0, 0, 4), other.narrow(0, 0, 4)));
  EXPECT_FALSE(at::equal(one[4], other[4]));
}

TEST_F(AdapterRuns, WritePeftsFilesAndGoOnFromThem) {
  const std::string folder = saved(config_, 3, "adapter");
  EXPECT_EQ(test::names_in(folder), (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors"}));
  const HfDirectory written = HfDirectory::of_adapter(folder);
  expect_words(written.config_json(), {"\"peft_type\": \"LORA\"", "\"r\": 4", "CAUSAL_LM"});
  EXPECT_TRUE(written.file_with("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").tensors().size() > 1);
  Config on = config_;
  on.adapter = {};
  on.adapter.path = folder;
  std::map<std::string, at::Tensor> trained, read;
  after(config_, 3, [&](Trainer& trainer, const auto&) { trained = trainer.gather_weights(); });
  after(on, 0, [&](Trainer& trainer, const auto&) {
    read = trainer.gather_weights();
    EXPECT_EQ(trainer.settled().config.adapter.lora_alpha, 6);
  });
  ASSERT_EQ(read.size(), trained.size());
  for (const auto& [name, weight] : trained) EXPECT_TRUE(at::equal(read.at(name), weight)) << name;
  test::spill(folder + "/model.safetensors", "of an older export");
  after(on, 1, [&](Trainer& trainer, const auto&) {
    expect_words(refusal<ConfigError>([&] { trainer.save(folder); }), {"adapter.path", "save to another folder"});
  });
}

TEST_F(AdapterRuns, RefuseWhatDoesNotFitInOneLine) {
  const std::string folder = saved(config_, 0, "adapter");
  Config on = test::tiny_config(Method::kDpo);
  on.adapter.path = folder, on.adapter.r = 16;
  expect_words(fault(on), {"adapter.r is not what ", "/adapter_config.json says", "leave it out"});
  on.adapter.r = 8, on.adapter.path = scratch_ / "nowhere";
  expect_words(fault(on), {"nowhere", "no such folder"});
  std::filesystem::create_directory(on.adapter.path);
  expect_words(fault(on), {"nowhere is no adapter", "adapter_config.json"});
  on.adapter.path = folder, on.model.preset.clear(), on.model.path = FPDIST_SOURCE_DIR "/tests/golden/model_qwen2";
  expect_words(fault(on),
               {"adapter is an adapter of another model", "lora_A.weight is [4, ", "there and [4, 32] here"});
  Config wrong = config_;
  wrong.adapter.target_modules = {"q_porj"};
  expect_words(fault(wrong), {"did you mean q_proj?"});
}

TEST_F(AdapterRuns, OfAPrefixHaveTheModelAsReferenceAndGoOn) {
  Config prefix = test::tiny_config(Method::kDpo);
  for (const char* type : {"prompt_tuning", "prefix_tuning"}) {
    prefix.adapter.type = type, prefix.adapter.num_virtual_tokens = 4, prefix.loss.beta = 0.1;
    const auto first = step_of(prefix);
    EXPECT_NE(first.at("rewards/chosen"), 0);  // no virtual tokens of any values are the model
    const double of_reference = first.at("logps/chosen") - first.at("rewards/chosen") / prefix.loss.beta;
    EXPECT_NEAR(of_reference, step_of(test::tiny_config(Method::kDpo)).at("logps/chosen"), 1e-10);
  }
  const std::string folder = saved(prefix, 2, "prefix");
  EXPECT_EQ(test::names_in(folder), (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors"}));
  const HfDirectory written = HfDirectory::of_adapter(folder);
  expect_words(written.config_json(), {"\"peft_type\": \"PREFIX_TUNING\"", "\"num_virtual_tokens\": 4"});
  EXPECT_EQ(written.names(), std::vector<std::string>{"prompt_embeddings"});
  Config on = test::tiny_config(Method::kDpo);
  on.adapter.path = folder;
  EXPECT_EQ(step_of(on).at("rewards/chosen"), 0);
  std::map<std::string, at::Tensor> trained, read;
  after(prefix, 2, [&](Trainer& trainer, const auto&) { trained = trainer.gather_weights(); });
  after(on, 0, [&](Trainer& trainer, const auto&) { read = trainer.gather_weights(); });
  ASSERT_EQ(read.size(), 8);
  for (const auto& [name, weight] : trained) EXPECT_TRUE(at::equal(read.at(name), weight)) << name;
}

TEST_F(AdapterRuns, OfVirtualTokensBeginAsTheirText) {
  Config config = test::tiny_config(Method::kSft), plain = config, embedded = config;
  config.adapter.type = "prefix_tuning", config.adapter.num_virtual_tokens = 5;
  config.adapter.init_text = "add up";
  embedded.adapter.type = "prompt_tuning", embedded.adapter.num_virtual_tokens = 5;
  embedded.adapter.prompt_tuning_init = "TEXT", embedded.adapter.prompt_tuning_init_text = "add up";
  std::vector<data::Group> groups = test::random_groups(Method::kSft, 5, 0);
  const auto loss_of = [&](const Config& of) {
    double loss = 0;
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      loss = Trainer(world, of, log).step(groups).values.at("loss");
    });
    return loss;
  };
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample) sample.target[0] = data::kIgnore;  // no row predicts it without the text
  const double behind_it = loss_of(config), behind_its_embeddings = loss_of(embedded);
  const std::string text = "add u";
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample) {
      sample.token.insert(sample.token.begin(), text.begin(), text.end());
      sample.target.insert(sample.target.begin(), text.size(), data::kIgnore);
    }
  EXPECT_NEAR(behind_it, loss_of(plain), 1e-12);
  EXPECT_NEAR(behind_its_embeddings, behind_it, 1e-12);
  embedded.adapter.prompt_tuning_init = "RANDOM";
  expect_words(fault(embedded), {"prompt_tuning_init is RANDOM", "say prompt_tuning_init: TEXT"});
  embedded.adapter.prompt_tuning_init = "TEXT", embedded.adapter.prompt_tuning_init_text = "";
  expect_words(fault(embedded), {"prompt_tuning_init is TEXT: say which"});
  config.adapter.num_virtual_tokens = 7;
  expect_words(fault(config), {"adapter.init_text has 6 tokens, and adapter.num_virtual_tokens is 7", "or 6 tokens"});
  config.adapter.init_weights = "zero";
  expect_words(fault(config), {"adapter.init_weights is zero, and there is an adapter.init_text", "keep one"});
}

/// Log-probs that are stored are those of the policy behind its virtual tokens, without these.
TEST_F(AdapterRuns, OfVirtualTokensStoreTheirLogps) {
  for (const bool by_context : {false, true}) {
    SCOPED_TRACE(by_context ? "keys by context" : "embeddings");
    Config config = test::tiny_config(Method::kGrpo);
    config.adapter.type = by_context ? "prefix_tuning" : "prompt_tuning", config.adapter.num_virtual_tokens = 4;
    if (by_context) config.adapter.prefix_by = "context", config.adapter.context_dim = 1;
    std::vector<data::Group> groups = test::random_groups(config.method, 5, 3);
    for (data::Group& group : groups) {
      group.prefix_context = {static_cast<float>(group.id % 2)};
      for (data::Sample& sample : group.sample) sample.old_logp.clear();
    }
    const auto metrics_of = [&](bool stores) {
      std::map<std::string, double> metrics;
      after(config, 0, [&](Trainer& trainer, const auto&) {
        std::vector<data::Group> own = groups;
        if (stores) trainer.compute_old_logps(own);
        for (const data::Group& group : own)
          for (const data::Sample& sample : group.sample)
            EXPECT_EQ(sample.old_logp.size(), stores ? sample.token.size() : 0);
        metrics = trainer.step(own).values;
      });
      return metrics;
    };
    const auto stored = metrics_of(true), at_ratio_one = metrics_of(false);
    for (const char* name : {"loss", "grad_norm"}) EXPECT_NEAR(stored.at(name), at_ratio_one.at(name), 1e-10) << name;
  }
  Config on = test::tiny_config(Method::kDpo);
  on.adapter.type = "prompt_tuning", on.adapter.num_virtual_tokens = 4;
  on.adapter.path = saved(on, 1, "prompt"), on.adapter.type = "none", on.adapter.num_virtual_tokens = 0;
  on.loss.precompute_ref_log_probs = true;
  after(on, 0, [](Trainer& trainer, const auto&) {
    std::vector<data::Group> groups = test::random_groups(Method::kDpo, 5, 3);
    NullLog log;
    trainer.prepare_reference(groups, {}, log);
    EXPECT_NEAR(trainer.step(groups).values.at("rewards/chosen"), 0, 1e-12);
  });
}

TEST_F(AdapterRuns, RefuseAPrefixThatDoesNotFitInOneLine) {
  Config prefix = test::tiny_config(Method::kDpo);
  prefix.adapter.type = "prefix_tuning";
  expect_words(fault(prefix), {"adapter.num_virtual_tokens is 0", "num_virtual_tokens: 20"});
  prefix.adapter.num_virtual_tokens = 1 << 20;
  expect_words(fault(prefix), {"adapter.num_virtual_tokens is 1048576", "give it fewer"});
  prefix.adapter.num_virtual_tokens = 4, prefix.adapter.r = 16;
  expect_words(fault(prefix), {"adapter.r is a key of lora, and adapter.type is prefix_tuning", "leave it out"});
  prefix.adapter.r = 8, prefix.adapter.prefix_projection = true, prefix.adapter.init_text = "a text";
  expect_words(fault(prefix),
               {"adapter.prefix_projection makes keys and values of its own", "leave adapter.init_text"});
  prefix.adapter.init_text.clear(), prefix.adapter.prefix_projection = false, prefix.adapter.type = "none";
  expect_words(fault(prefix), {"adapter.num_virtual_tokens is a key of prefix_tuning, cartridge or prompt_tuning",
                               "adapter.type is none"});
  prefix.adapter.type = "prefix_tuning";
  const std::string folder = saved(prefix, 0, "prefix");
  Config on = test::tiny_config(Method::kDpo);
  on.adapter.path = folder, on.adapter.type = "lora";
  expect_words(fault(on), {"adapter.type is not what ", "/adapter_config.json says", "leave it out"});
  on.adapter.type = "none";
  on.model.preset.clear(), on.model.path = FPDIST_SOURCE_DIR "/tests/golden/model_qwen2";
  expect_words(fault(on), {"is a prefix of another model: prompt_embeddings is [4, ", "there and [4, 64] here"});
  std::string json = test::slurp(folder + "/adapter_config.json");
  json.replace(json.find("\"prefix_projection\": false"), 26, "\"prefix_projection\": true");
  test::spill(folder + "/adapter_config.json", json);
  expect_words(fault(on), {"adapter_config.json: \"prefix_projection\" is true", "false trains the keys"});
  json.replace(json.find("PREFIX_TUNING"), 13, "P_TUNING");
  test::spill(folder + "/adapter_config.json", json);
  expect_words(fault(on), {"\"peft_type\" is \"P_TUNING\"", "LORA, PREFIX_TUNING"});
}

/// The file is PEFT's of a cartridge; tokens at its front stay as they began, bit for bit, and so does their size.
TEST_F(AdapterRuns, OfACartridgeKeepItsFront) {
  Config config = test::tiny_config(Method::kSft);
  config.adapter.type = "cartridge", config.adapter.num_virtual_tokens = 5, config.adapter.num_frozen_tokens = 2;
  config.adapter.init_text = "add up", config.optim.weight_decay = 0.1;
  std::map<std::string, at::Tensor> began, trained;
  after(config, 0, [&](Trainer& trainer, const auto&) { began = trainer.gather_weights(); });
  after(config, 3, [&](Trainer& trainer, const auto&) { trained = trainer.gather_weights(); });
  for (const auto& [name, weight] : trained) {
    const at::Tensor& before = began.at(name);
    EXPECT_TRUE(at::equal(weight.narrow(0, 0, 2), before.narrow(0, 0, 2))) << name;
    EXPECT_TRUE(weight.narrow(0, 2, 3).ne(before.narrow(0, 2, 3)).all().item<bool>()) << name;
  }
  const std::string folder = saved(config, 3, "cartridge");
  expect_words(test::slurp(folder + "/adapter_config.json"),
               {"\"peft_type\": \"CARTRIDGE\"", "\"num_virtual_tokens\": 5", "\"num_frozen_tokens\": 2"});
  Config on = test::tiny_config(Method::kSft);
  on.adapter.path = folder;
  after(on, 0, [&](Trainer& trainer, const auto&) {
    EXPECT_EQ(trainer.settled().config.adapter.num_frozen_tokens, 2);
    for (const auto& [name, weight] : trainer.gather_weights())
      EXPECT_TRUE(at::equal(weight, trained.at(name))) << name;
  });
  std::string json = test::slurp(folder + "/adapter_config.json");
  json.replace(json.find("\"num_frozen_tokens\": 2"), 22, "\"num_frozen_tokens\": 9");
  test::spill(folder + "/adapter_config.json", json);
  expect_words(fault(on), {"\"num_frozen_tokens\" is 9", "no more than num_virtual_tokens"});
  config.adapter.num_frozen_tokens = 6;
  expect_words(fault(config), {"adapter.num_frozen_tokens is 6", "5 tokens: freeze fewer"});
  config.adapter.type = "prefix_tuning", config.adapter.num_frozen_tokens = 2;
  expect_words(fault(config), {"adapter.num_frozen_tokens is a key of cartridge"});
}

/// Sums over the prefix's keys k and values v, each query head with those that it reads.
TEST_F(AdapterRuns, OfNtkAttentionBeginAsAPrefix) {
  const std::string golden = FPDIST_SOURCE_DIR "/tests/golden/", folder = scratch_ / "turned";
  main_program::ExportRequest request{.from = golden + "prefix_llama", .to = folder, .dtype = {}};
  request.base = golden + "model_llama";
  main_program::export_ntk(request);
  Config on = test::tiny_config(Method::kSft);
  on.model.preset.clear(), on.model.path = request.base, on.adapter.path = folder;
  const at::Tensor prefix =
      HfDirectory::of_adapter(request.from).tensor(arch::kPromptEmbeddings).to(at::kDouble);  // [P, 2 layers kv]
  after(on, 0, [&](Trainer& trainer, const auto&) {
    EXPECT_EQ(trainer.settled().config.adapter.type, "ntk");
    const arch::Attention& attention = trainer.settled().model.layers[1].attention;
    const int64_t dim = attention.head_dim, kv = attention.kv_heads, head = attention.heads - 1;
    const auto of_last = [&](int64_t part) { return prefix.narrow(1, ((2 + part) * kv + kv - 1) * dim, dim); };
    at::Tensor z = at::zeros({dim, dim}, at::kDouble), k = at::zeros({dim}, at::kDouble);
    for (int64_t p = 0; p < prefix.size(0); ++p) {
      const at::Tensor x = of_last(0)[p] / std::pow(static_cast<double>(dim), 0.25);
      const at::Tensor phi = at::where(x.gt(0), x + 1, at::exp(x));
      z += at::outer(phi, of_last(1)[p]), k += phi;
    }
    const auto weights = trainer.gather_weights();
    const at::Tensor got = weights.at(std::string("model.layers.1") + arch::kNtkValues).narrow(0, head * dim, dim);
    EXPECT_LT((got - z).abs().max().item<double>(), 1e-6 * z.abs().max().item<double>());
    EXPECT_LT((weights.at(std::string("model.layers.1") + arch::kNtkKeys)[head] - k).abs().max().item<double>(), 1e-5);
    trainer.step(test::random_groups(Method::kSft, 3, 1));
  });
  request.from = folder, request.to = scratch_ / "again";
  expect_words(refusal<ConfigError>([&] { main_program::export_ntk(request); }),
               {"is of type ntk", "keys of a prefix"});
  request.from = golden + "prefix_qwen3", request.base = golden + "model_llama";
  expect_words(refusal<Error>([&] { main_program::export_ntk(request); }), {"is a prefix of another model"});
}

TEST_F(AdapterRuns, GoOnFromACheckpointOnAnotherMesh) {
  Config unbroken = in("unbroken", config_), broken = in("broken", config_);
  unbroken.adapter.target_modules = broken.adapter.target_modules = {"all-linear"};
  unbroken.adapter.lora_dropout = broken.adapter.lora_dropout = 0.2;
  run(unbroken, 1);
  run(broken, 1, 3);
  static_cast<MeshShape&>(broken.parallel) = {.dp = 2, .tp = 2};
  run(broken, 4);
  expect_words(said(), {"broken/checkpoint-2, after step 2"});
  const HfDirectory got = HfDirectory::of_adapter(scratch_ / "broken/final"),
                    wanted = HfDirectory::of_adapter(scratch_ / "unbroken/final");
  for (const std::string& name : wanted.names())
    EXPECT_LT((got.file_with(name).tensor(name) - wanted.file_with(name).tensor(name)).abs().max().item<double>(),
              1e-9);
  broken.adapter.r = 5;
  EXPECT_THROW(run(broken, 4), Error);
  broken.adapter = {};
  EXPECT_THROW(run(broken, 4), Error);
}

}  // namespace
}  // namespace fpdist::trainer
