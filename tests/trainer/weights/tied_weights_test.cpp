// Embeddings, heads and names in every combination of config.json and weights, against what Transformers makes of them
// (tests/golden/make_tied_golden.py). Exports stay in the build folder for tests/golden/check_export.py.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/parallel/stage.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/describe_plan.hpp"
#include "src/trainer/weights/whole_weights.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using checkpoint::NamedTensors;

const std::string kGolden = std::string(FPDIST_SOURCE_DIR) + "/tests/golden/tied";
const std::string kEmbedding = arch::kEmbeddingWeight, kHead = arch::kHeadWeight;

/// The golden model's tensors but for the two in question, which are apart.
struct Parts {
  NamedTensors rest;
  at::Tensor embedding, head;
};

Parts golden_parts() {
  const checkpoint::SafetensorsFile file(kGolden + "/model.safetensors");
  Parts parts{.rest = {}, .embedding = file.tensor(kEmbedding), .head = file.tensor(kHead)};
  for (const auto& [name, info] : file.tensors())
    if (name != kEmbedding && name != kHead) parts.rest.emplace_back(name, file.tensor(name));
  return parts;
}

NamedTensors tensors_of(const std::string& file) {
  const Parts parts = golden_parts();
  NamedTensors tensors = parts.rest;
  if (file != "head") tensors.emplace_back(kEmbedding, parts.embedding);
  if (file != "embedding") tensors.emplace_back(kHead, file == "both_differ" ? parts.head : parts.embedding.clone());
  return tensors;
}

std::string spelled(const std::string& name, const std::string& names) {
  const bool is_bare = names == "bare" || (names == "mixed" && name.find("norm") != std::string::npos);
  if (is_bare && name.starts_with("model.")) return name.substr(6);
  return names == "doubled" ? "model." + name : name;
}

Config config_of(const std::string& path, Method method = Method::kSft) {
  at::set_num_threads(1);
  Config config;
  config.method = method;
  config.model.path = path;
  config.model.device = "cpu";
  config.data.path = {"none"};
  return config;
}

/// What one rank makes of a directory, and what it exports to `to`.
struct Loaded {
  at::Tensor logits;
  std::string said;
  std::vector<std::string> names;  // of its parameters
};

Loaded load(const Config& config, const std::string& to) {
  Loaded loaded;
  test::HeardLog log;
  comm::run_threads(1, [&](comm::World& world) {
    const Job job(world, config, log);
    Weights weights(job);
    model::Transformer& model = *weights.runs().front();
    for (const auto& parameter : model.parameters()) loaded.names.push_back(parameter->name);
    data::Sample sample;
    sample.token = sample.target = {1, 2, 3, 4};
    const std::vector<prefix::PackMember> members{{0, 0, &sample}};
    const auto pack = parallel::make_pack_tensors(prefix::make_layout(members, true));
    const auto& [rows, head_rows] = pack.slice[0];
    const at::NoGradGuard no_grad;
    const at::Tensor hidden = model.forward(0, rows, {});
    loaded.logits = weights.head() == Head::kScore ? model.scores(hidden, head_rows) : model.logits(hidden);
    checkpoint::write_safetensors(to + ".logits.safetensors",
                                  {{"ids", rows.token}, {"logits", loaded.logits.contiguous()}});
    save_directory(job, weights, to, {.dtype = job.config.model.dtype}, files::Inputs());
  });
  loaded.said = log.said();
  return loaded;
}

class TiedWeights : public ::testing::Test {
 protected:
  TiedWeights() { fs::create_directories(exports_); }
  /// A directory of the golden model whose config.json has `change` made to it.
  std::string directory(const NamedTensors& tensors, const std::function<void(Json&)>& change) const {
    const std::string folder = scratch_ / "model";
    fs::remove_all(folder);
    fs::create_directories(folder);
    Json config = Json::parse(test::slurp(kGolden + "/config.json"));
    change(config);
    test::spill(folder + "/config.json", config.dump());
    checkpoint::write_safetensors(folder + "/model.safetensors", tensors);
    return folder;
  }
  std::string directory(const std::string& tie, const std::string& file, const std::string& names) const {
    NamedTensors tensors = tensors_of(file);
    for (auto& [name, value] : tensors) name = spelled(name, names);
    return directory(tensors, [&](Json& config) {
      if (tie != "absent") config["tie_word_embeddings"] = tie == "true";
    });
  }

  const test::Scratch scratch_;
  const fs::path exports_ = fs::path(FPDIST_BINARY_DIR) / "model_export";
};

TEST_F(TiedWeights, EveryCombinationIsWhatTransformersMakesOfItOrRefused) {
  const checkpoint::SafetensorsFile expected(kGolden + "/expected.safetensors");
  size_t same = 0;
  for (const char* tie : {"true", "false", "absent"})
    for (const char* file : {"both_same", "both_differ", "embedding", "head"})
      for (const char* names : {"prefixed", "bare", "doubled", "mixed"}) {
        const std::string which = text(tie, ".", file, ".", names), golden = "logits." + which;
        SCOPED_TRACE(which);
        const std::string from = directory(tie, file, names);
        const std::string to = (exports_ / text("tied_", tie, "_", file, "_", names, "-float32")).string();
        if (!expected.tensors().contains(golden)) {  // Transformers would seed what is missing
          const bool is_head = std::string(file) == "embedding";
          test::expect_words(
              test::error_of<ModelFileError>([&] { load(config_of(from), to); }),
              {"lacks weights", is_head ? kHead + ": where the embedding is the head, say" : kEmbedding});
          continue;
        }
        ++same;
        const Loaded loaded = load(config_of(from), to);
        EXPECT_LT(test::relative_error(loaded.logits, expected.tensor(golden), 0.0), 1e-5);
        const bool unties = std::string(tie) == "true" && std::string(file) == "both_differ";
        EXPECT_EQ(test::contains(loaded.said, "trained and exported as two"), unties) << loaded.said;

        // The export says by itself what it is: one name where one serves as both, and both where not.
        const bool is_tied = std::string(tie) == "true" && !unties;
        const checkpoint::HfDirectory exported(to);
        EXPECT_TRUE(exported.contains(kEmbedding));
        EXPECT_EQ(exported.contains(kHead), !is_tied);
        EXPECT_EQ(Json::parse(exported.config_json()).value("tie_word_embeddings", false), is_tied);
        const Loaded again = load(config_of(to), scratch_ / "again");
        EXPECT_TRUE(at::equal(again.logits, loaded.logits));
        EXPECT_EQ(again.said, "");
      }
  EXPECT_EQ(same, expected.tensors().size());
}

TEST_F(TiedWeights, AnUntiedModelTrainsOnEveryMesh) {
  const Config one = [&] {
    Config config = config_of(directory("true", "both_differ", "prefixed"));
    config.model.dtype = DType::kFloat64;
    config.optim.max_grad_norm = 0;
    return config;
  }();
  data::Group group;
  data::Sample& sample = group.sample.emplace_back();
  sample.token = sample.target = {1, 2, 3, 4, 5, 6};
  const auto head_after_a_step = [&](int pp, int tp) {
    Config config = one;
    config.parallel.pp = pp, config.parallel.tp = tp;
    at::Tensor head;
    comm::run_threads(pp * tp, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      trainer.step({&group, 1});
      auto weights = trainer.gather_weights();
      if (world.rank() == 0) head = weights.at(kHead);
    });
    return head;
  };
  const at::Tensor wanted = head_after_a_step(1, 1);
  EXPECT_LT(test::relative_error(head_after_a_step(1, 2), wanted, 0.0), 1e-10);
  EXPECT_FALSE(at::equal(wanted, golden_parts().head.to(at::kDouble)));
}

TEST_F(TiedWeights, ThePlanCountsTheHeadThatARunUnties) {
  for (const char* file : {"both_differ", "both_same"}) {
    Config config = config_of(directory("true", file, "prefixed"));
    config.data.path = {scratch_ / "rows.jsonl"};
    test::spill(config.data.path[0], "{\"input_ids\": [1, 2], \"labels\": [1, 2]}\n");
    const checkpoint::HfDirectory weights(config.model.path);
    NullLog log;
    const std::string plan = config::describe_plan(config, 1, log, [&](arch::Model& model) {
      model.tie_word_embeddings = checkpoint::ties_embedding(weights, model);
    });
    int64_t parameters = 0;
    comm::run_threads(1, [&](comm::World& world) { parameters = Trainer(world, config, log).parameters().size(); });
    EXPECT_NE(plan.find(text("(", parameters, " parameters)")), std::string::npos) << plan;
  }
}

TEST_F(TiedWeights, ARewardModelTakesTheHeadForItsEmbedding) {
  const std::string head = directory("true", "head", "bare");
  const Loaded from_head = load(config_of(head, Method::kReward), (exports_ / "tied_head_score-float32").string());
  const Loaded from_embedding = load(config_of(directory("true", "embedding", "prefixed"), Method::kReward),
                                     (exports_ / "tied_embedding_score-float32").string());
  EXPECT_TRUE(at::equal(from_head.logits, from_embedding.logits));
  EXPECT_EQ(from_head.said, "") << "a head that no reward model has is no surprise";
  const Loaded differ = load(config_of(directory("true", "both_differ", "prefixed"), Method::kReward),
                             (exports_ / "tied_differ_score-float32").string());
  EXPECT_TRUE(at::equal(differ.logits, from_embedding.logits));
  EXPECT_EQ(differ.said, "");
}

TEST_F(TiedWeights, ShardsMaySpellNamesAnyWay) {
  NamedTensors tensors = tensors_of("both_same");
  for (auto& [name, value] : tensors) name = spelled(name, "bare");
  const std::string folder = directory(tensors, [](Json& config) { config["tie_word_embeddings"] = true; });
  fs::remove(folder + "/model.safetensors");
  Json index;
  for (size_t i = 0; i < 2; ++i) {
    const size_t half = tensors.size() / 2, begin = i * half, end = i == 0 ? half : tensors.size();
    const NamedTensors part(tensors.begin() + static_cast<std::ptrdiff_t>(begin),
                            tensors.begin() + static_cast<std::ptrdiff_t>(end));
    const std::string name = text("model-0000", i + 1, "-of-00002.safetensors");
    checkpoint::write_safetensors(folder + "/" + name, part);
    for (const auto& [tensor, value] : part) index["weight_map"][tensor] = name;
  }
  test::spill(folder + "/model.safetensors.index.json", index.dump());
  const checkpoint::SafetensorsFile expected(kGolden + "/expected.safetensors");
  EXPECT_LT(test::relative_error(load(config_of(folder), scratch_ / "out").logits,
                                 expected.tensor("logits.true.both_same.bare"), 0.0),
            1e-5);
}

TEST_F(TiedWeights, WeightsThatTheModelHasNoPlaceForAreNamed) {
  NamedTensors tensors = tensors_of("both_same");
  tensors.emplace_back("model.layers.0.self_attn.q_proj.bias", at::ones({16}));
  tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", at::ones({4}));
  const std::string folder = directory(tensors, [](Json&) {});
  const std::string said = load(config_of(folder), scratch_ / "out").said;
  test::expect_words(said, {"warning", "not read and will not be exported: model.layers.0.self_attn.q_proj.bias\n"});
  EXPECT_EQ(said.find("inv_freq"), std::string::npos) << "old files have it, and nobody misses it";
}

}  // namespace
}  // namespace fpdist::trainer
