// The law of the axes: any mesh gives the loss, the metrics, every gradient and, after three AdamW steps, the weights
// of one rank.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/laws/metric_laws.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using test::tiny_config;

struct Job {
  const char* name;
  plan::ParallelOptions parallel;
  int slices = 1;
};

plan::ParallelOptions mesh(int dp, int pp, int cp, int tp, plan::Schedule schedule = plan::Schedule::k1F1B,
                           int virtual_stages = 1, int ulysses = 1, plan::CpMethod method = plan::CpMethod::kAuto) {
  plan::ParallelOptions options;
  options.dp = dp, options.pp = pp, options.cp = cp, options.tp = tp;
  options.schedule = schedule, options.virtual_stages = virtual_stages, options.ulysses = ulysses;
  options.cp_method = method;
  options.cp_chunk = 4;  // prefixes end inside chunks
  return options;
}

constexpr auto kZb = plan::Schedule::kZeroBubble, kInterleaved = plan::Schedule::kInterleaved,
               k1F1B = plan::Schedule::k1F1B;

std::vector<Job> all_jobs() {
  return {{"dp8", mesh(8, 1, 1, 1)},
          {"tp2", mesh(1, 1, 1, 2)},
          {"tp4", mesh(1, 1, 1, 4)},
          {"cp2", mesh(1, 1, 2, 1)},
          {"cp8", mesh(1, 1, 8, 1)},
          {"cp5_ring", mesh(1, 1, 5, 1, k1F1B, 1, 1, plan::CpMethod::kRing)},
          {"cp3_groupcast", mesh(1, 1, 3, 1, k1F1B, 1, 1, plan::CpMethod::kGroupCast)},
          {"pp2", mesh(1, 2, 1, 1)},
          {"pp4", mesh(1, 4, 1, 1)},
          {"pp4_zb", mesh(1, 4, 1, 1, kZb)},
          {"pp2_v2", mesh(1, 2, 1, 1, kInterleaved, 2)},
          {"dp2tp2cp2", mesh(2, 1, 2, 2)},
          {"tp2cp2pp2", mesh(1, 2, 2, 2)},
          {"tp2cp2pp2_zb", mesh(1, 2, 2, 2, kZb)},
          {"dp2cp2pp2", mesh(2, 2, 2, 1)},
          {"dp2pp2_v2", mesh(2, 2, 1, 1, kInterleaved, 2)},
          {"tp2pp4", mesh(1, 4, 1, 2)},
          {"cp4tp2", mesh(1, 1, 4, 2)},
          {"cp4_ulysses2", mesh(1, 1, 4, 1, k1F1B, 1, 2)},
          {"dp3", mesh(3, 1, 1, 1)},
          {"sliced", mesh(1, 1, 1, 1), 3},
          {"pp2_sliced", mesh(1, 2, 1, 1), 3},
          {"pp4_sliced", mesh(1, 4, 1, 1), 5},
          {"cp3_sliced", mesh(1, 1, 3, 1), 2},
          {"cp4_ulysses2_sliced", mesh(1, 1, 4, 1, k1F1B, 1, 2), 4},
          {"tp2cp2pp2_sliced", mesh(1, 2, 2, 2), 3},
          {"tp2cp2pp2_zb_sliced", mesh(1, 2, 2, 2, kZb), 3},
          {"pp2_v2_sliced", mesh(1, 2, 1, 1, kInterleaved, 2), 4},
          {"one_row_slices", mesh(1, 2, 1, 1, kZb), 1000}};
}

struct Variant {
  const char* name;
  Method method;
  const char* loss = "grpo";  // see tiny_config
};

Config config_of(const Variant& variant) {
  Config config = tiny_config(variant.method, variant.loss);
  config.pack.max_tokens = 70;  // several packs a replica, none of a round size
  return config;
}

constexpr uint64_t kSeed = 21;

struct Outcome {
  std::vector<std::map<std::string, double>> metrics;  // of each step
  std::map<std::string, at::Tensor> gradients;         // of the first step
  std::map<std::string, at::Tensor> weights;           // after the last
};

Outcome run(const Config& config, int ranks, int steps, comm::CommOptions options) {
  at::set_num_threads(1);
  Outcome outcome;
  std::mutex mutex;
  comm::run_threads(
      ranks,
      [&](comm::World& world) {
        NullLog log;
        Trainer trainer(world, config, log);
        Outcome own;
        for (int s = 0; s < steps; ++s) {
          auto groups = test::random_groups(config.method, 7, kSeed + static_cast<uint64_t>(s));
          const auto sources = std::ssize(config.adapter.prefix_values);
          for (data::Group& group : groups) {
            group.source = sources > 0 ? static_cast<int32_t>(group.id % sources) : -1;
            if (config.adapter.context_dim > 0) group.prefix_context = {static_cast<float>(group.id % 3), 0.25F};
          }
          own.metrics.push_back(trainer.step(groups).values);
          if (s == 0) own.gradients = trainer.gather_gradients();
        }
        own.weights = trainer.gather_weights();
        const std::lock_guard lock(mutex);
        if (world.rank() == 0) outcome = std::move(own);
      },
      options);
  return outcome;
}

comm::CommOptions patient() { return {.timeout = std::chrono::seconds(120)}; }

/// One rank's outcome, computed once a method.
const Outcome& single(const Variant& variant, int steps) {
  static std::map<std::string, Outcome> known;
  const auto [entry, fresh] = known.try_emplace(variant.name);
  if (fresh) entry->second = run(config_of(variant), 1, steps, patient());
  return entry->second;
}

void expect_close(const std::map<std::string, at::Tensor>& got, const std::map<std::string, at::Tensor>& wanted,
                  double tolerance, const char* what) {
  ASSERT_EQ(got.size(), wanted.size());
  double whole = 0;
  for (const auto& [name, tensor] : wanted) whole = std::max(whole, tensor.norm().item<double>());
  ASSERT_GT(whole, 0);
  for (const auto& [name, tensor] : wanted) {
    const double size = std::max(tensor.norm().item<double>(), 1e-6 * whole);
    EXPECT_LT((got.at(name) - tensor).norm().item<double>() / size, tolerance) << what << " of " << name;
  }
}

void expect_same_bits(const std::map<std::string, at::Tensor>& a, const std::map<std::string, at::Tensor>& b) {
  for (const auto& [name, tensor] : a) EXPECT_TRUE(at::equal(tensor, b.at(name))) << name;
}

class MeshLaw : public ::testing::TestWithParam<std::tuple<Job, Variant>> {};

TEST_P(MeshLaw, EqualsOneRank) {
  const auto& [job, variant] = GetParam();
  Config config = config_of(variant);
  config.parallel = job.parallel;
  config.pack.slices = job.slices;
  const Outcome &one = single(variant, 3), many = run(config, job.parallel.size(), 3, patient());
  ASSERT_EQ(many.metrics.size(), one.metrics.size());
  for (size_t s = 0; s < one.metrics.size(); ++s)
    for (const auto& [name, value] : one.metrics[s]) {
      if (test::is_about_layout(name)) continue;
      const auto groups = test::random_groups(variant.method, 7, kSeed + s);
      const double tie = test::tie_tolerance(name, test::share_of_ties(groups));
      EXPECT_NEAR(many.metrics[s].at(name), value, tie + 1e-10 * std::max(1.0, std::abs(value)))
          << name << ", step " << s + 1 << ", seed " << kSeed;
    }
  expect_close(many.gradients, one.gradients, 1e-10, "gradient");
  expect_close(many.weights, one.weights, 1e-9, "weight");
}

/// Of the five variants every mesh takes two in turn, `Others` the three that are left: a minute more, label long.
std::vector<std::tuple<Job, Variant>> laws(bool others) {
  const std::vector<Variant> variants{{"sft", Method::kSft},
                                      {"dpo", Method::kDpo},
                                      {"reward", Method::kReward},
                                      {"grpo", Method::kGrpo},
                                      {"grpo_sequence", Method::kGrpo, "sequence"}};
  std::vector<std::tuple<Job, Variant>> some;
  const std::vector<Job> jobs = all_jobs();
  for (size_t j = 0; j < jobs.size(); ++j)
    for (size_t v = 0; v < variants.size(); ++v)
      if (others != (v == j % variants.size() || v == (j + 2) % variants.size()))
        some.emplace_back(jobs[j], variants[v]);
  return some;
}

std::string name_of_law(const ::testing::TestParamInfo<std::tuple<Job, Variant>>& info) {
  return std::string(std::get<0>(info.param).name) + "_" + std::get<1>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(InTurn, MeshLaw, ::testing::ValuesIn(laws(false)), name_of_law);
INSTANTIATE_TEST_SUITE_P(Others, MeshLaw, ::testing::ValuesIn(laws(true)), name_of_law);

TEST(MeshBits, TheSameMeshTwiceGivesTheSameBitsAlsoUnderDelays) {
  for (const Job& job : {Job{"tp2cp2pp2", mesh(1, 2, 2, 2)}, Job{"dp2pp2_zb", mesh(2, 2, 1, 1, kZb)},
                         Job{"cp4_ulysses2", mesh(1, 1, 4, 1, k1F1B, 1, 2)}, Job{"cp8", mesh(1, 1, 8, 1)}}) {
    SCOPED_TRACE(job.name);
    Config config = config_of({"dpo", Method::kDpo});
    config.parallel = job.parallel;
    const Outcome first = run(config, job.parallel.size(), 2, patient());
    comm::CommOptions slow = patient();
    slow.max_delay = std::chrono::microseconds(300), slow.delay_seed = 5;
    const Outcome second = run(config, job.parallel.size(), 2, slow);
    expect_same_bits(first.weights, second.weights);
    expect_same_bits(first.gradients, second.gradients);
  }
}

/// Biases, head norms, tied embeddings on both ends of a pipeline, clipping over the whole mesh, weights read in
/// slices.
TEST(MeshFamilies, EveryFamilyEqualsOneRankOnEveryAxis) {
  for (const char* family : {"llama", "llama_linear", "qwen2", "qwen3"})
    for (const Job& job :
         {Job{"pp2", mesh(1, 2, 1, 1)}, Job{"pp2_zb", mesh(1, 2, 1, 1, kZb)}, Job{"tp4", mesh(1, 1, 1, 4)},
          Job{"tp2cp2pp2", mesh(1, 2, 2, 2)}, Job{"dp2pp2tp2", mesh(2, 2, 1, 2)}}) {
      SCOPED_TRACE(text(family, " on ", job.name));
      Config config = config_of({"dpo", Method::kDpo});
      config.model.preset.clear();
      config.model.path = text(FPDIST_SOURCE_DIR "/tests/golden/model_", family);
      config.optim.max_grad_norm = 0.01;
      const Outcome one = run(config, 1, 2, patient());
      EXPECT_GT(one.metrics[0].at("grad_norm"), 0.02) << "nothing was clipped";
      config.parallel = job.parallel;
      const Outcome many = run(config, job.parallel.size(), 2, patient());
      EXPECT_NEAR(many.metrics[1].at("grad_norm"), one.metrics[1].at("grad_norm"), 1e-10);
      expect_close(many.gradients, one.gradients, 1e-10, "gradient");
      expect_close(many.weights, one.weights, 1e-9, "weight");
    }
}

/// Of one rank's outcome: `steps` of it.
void expect_equal_on(std::vector<Job> jobs, Config config, const Outcome& one, int steps) {
  for (const Job& job : jobs) {
    SCOPED_TRACE(text(config.adapter.type, ", ", name_of(config.method), " on ", job.name));
    config.parallel = job.parallel, config.pack.slices = job.slices;
    const Outcome many = run(config, job.parallel.size(), steps, patient());
    for (size_t s = 0; s < one.metrics.size(); ++s)
      for (const char* name : {"loss", "grad_norm"})
        EXPECT_NEAR(many.metrics[s].at(name), one.metrics[s].at(name), 1e-10 * std::abs(one.metrics[s].at(name)));
    expect_close(many.gradients, one.gradients, 1e-10, "gradient");
    expect_close(many.weights, one.weights, 1e-9, "weight");
  }
}

const Job kTp4{"tp4", mesh(1, 1, 1, 4)}, kDp2Tp2Cp2{"dp2tp2cp2", mesh(2, 1, 2, 2)},
    kUlyssesSliced{"cp4_ulysses2_sliced", mesh(1, 1, 4, 1, k1F1B, 1, 2), 4},
    kZbSliced{"tp2cp2pp2_zb_sliced", mesh(1, 2, 2, 2, kZb), 3},
    kInterleavedSliced{"pp2_v2_sliced", mesh(1, 2, 1, 1, kInterleaved, 2), 4};

/// Of adapters: A whole and B cut, B whole and A cut, heads that ranks share, layers without any, a score head beside
/// them (with DoRA's magnitudes), the model without its adapter as reference; dropout of the same elements.
TEST(MeshAdapters, EqualOneRank) {
  for (const Method method : {Method::kDpo, Method::kReward}) {
    Config config = config_of({"adapter", method});
    config.adapter.type = "lora", config.adapter.r = 3, config.adapter.init_lora_weights = "false";
    config.adapter.target_modules = {"all-linear"}, config.adapter.layers_to_transform = {1, 2, 3};
    config.adapter.use_dora = method == Method::kReward, config.adapter.lora_dropout = 0.3;
    const Outcome one = run(config, 1, 3, patient());
    EXPECT_EQ(one.gradients.size(), method == Method::kReward ? 64 : 42);
    std::vector<Job> jobs{kTp4, kDp2Tp2Cp2, kZbSliced, {"dp2tp2pp2", mesh(2, 2, 1, 2)}};
    if (!config.adapter.use_dora)  // magnitudes know of no other axis; a stage of the last mesh has none
      jobs.insert(jobs.end(), {kUlyssesSliced, kInterleavedSliced, {"dp2pp4_zb", mesh(2, 4, 1, 1, kZb)}});
    expect_equal_on(jobs, config, one, 3);
  }
}

/// Of trained prefixes: keys of every rank's heads, heads that ranks share, heads in parts, slices, layers of a stage,
/// a score head beside them; rows of virtual tokens, which a reference beside them has not; weights of query heads. Of
/// three stages of four layers, three replicas reduce other pieces of what all have a copy of.
TEST(MeshPrefixes, EqualOneRank) {
  const auto law = [](const char* type, Method method, size_t weights, const std::vector<Job>& jobs,
                      bool is_projected = false) {
    Config config = config_of({"prefix", method});
    config.adapter.prefix_projection = is_projected;
    config.adapter.type = type, config.adapter.num_virtual_tokens = std::string_view(type) == "ntk" ? 0 : 3;
    const Outcome one = run(config, 1, 2, patient());
    EXPECT_EQ(one.gradients.size(), weights);
    expect_equal_on(jobs, config, one, 2);
  };
  law("prefix_tuning", Method::kDpo, 8,
      {kTp4,
       kUlyssesSliced,
       {"cp3_ring", mesh(1, 1, 3, 1, k1F1B, 1, 1, plan::CpMethod::kRing)},
       kDp2Tp2Cp2,
       {"pp2", mesh(1, 2, 1, 1)},
       kZbSliced,
       kInterleavedSliced});
  law("prefix_tuning", Method::kReward, 9, {kDp2Tp2Cp2});
  law("prompt_tuning", Method::kDpo, 1,
      {kTp4, kUlyssesSliced, kDp2Tp2Cp2, {"dp2pp2", mesh(2, 2, 1, 1)}, kZbSliced, kInterleavedSliced});
  law("prefix_tuning", Method::kDpo, 19,
      {kTp4, kUlyssesSliced, kDp2Tp2Cp2, {"dp3pp3", mesh(3, 3, 1, 1)}, kZbSliced, kInterleavedSliced},
      /*is_projected=*/true);
  law("ntk", Method::kDpo, 8, {kTp4, kUlyssesSliced, kZbSliced});
}

/// By source: keys in rows among others, which travel and are cut as these are, behind none for some groups; and those
/// at the front of a cartridge, which stay.
TEST(MeshPrefixes, BySourceAndWithAFrozenFrontEqualOneRank) {
  Config config = config_of({"prefix", Method::kDpo});
  config.adapter.type = "prefix_tuning", config.adapter.num_virtual_tokens = 3;
  config.adapter.prefix_by = "source", config.adapter.prefix_values = {"web", "code", "maths"};
  config.adapter.prefix_drop = 0.3;
  expect_equal_on({kTp4, kUlyssesSliced, kDp2Tp2Cp2, kZbSliced, kInterleavedSliced}, config,
                  run(config, 1, 2, patient()), 2);
  config.adapter.prefix_projection = true;
  expect_equal_on({kDp2Tp2Cp2, kZbSliced}, config, run(config, 1, 2, patient()), 2);
  config.adapter = {.type = "cartridge", .num_virtual_tokens = 3};
  expect_equal_on({kTp4, kZbSliced}, config, run(config, 1, 2, patient()), 2);
}

/// Some ranks and slices have no row of theirs; keys are cut by heads, embeddings by the own run of rows.
TEST(MeshPrefixes, ByContextEqualOneRank) {
  Config config = config_of({"prefix", Method::kDpo});
  config.adapter.num_virtual_tokens = 3, config.adapter.encoder_hidden_size = 5;
  config.adapter.prefix_by = "context", config.adapter.context_dim = 2, config.adapter.prefix_drop = 0.3;
  for (const char* type : {"prefix_tuning", "prompt_tuning"}) {
    SCOPED_TRACE(type);
    config.adapter.type = type;
    expect_equal_on({kTp4, kUlyssesSliced, kDp2Tp2Cp2, kZbSliced, kInterleavedSliced}, config,
                    run(config, 1, 2, patient()), 2);
  }
}

TEST(MeshPrefixes, BeginAsATextOnAnyMesh) {
  Config config = config_of({"prefix", Method::kSft});
  config.adapter.type = "prefix_tuning", config.adapter.num_virtual_tokens = 5;
  config.adapter.init_text = "What is seven";
  const Outcome one = run(config, 1, 0, patient());
  for (const Job& job : {Job{"tp4", mesh(1, 1, 1, 4)}, Job{"tp2cp2pp2", mesh(1, 2, 2, 2)},
                         Job{"dp2pp2_v2", mesh(2, 2, 1, 1, kInterleaved, 2)}}) {
    SCOPED_TRACE(job.name);
    config.parallel = job.parallel;
    expect_close(run(config, job.parallel.size(), 0, patient()).weights, one.weights, 1e-12, "weight");
  }
}

/// The other losses, on meshes whose keys travel in rings and group-casts, and in slices through a plain pipeline.
TEST(MeshAdapters, OfOtherLossesEqualOneRank) {
  const auto kRing = plan::CpMethod::kRing, kCast = plan::CpMethod::kGroupCast;
  const std::map<Method, std::vector<Job>> jobs{
      {Method::kSft, {{"cp3_ring", mesh(1, 1, 3, 1, k1F1B, 1, 1, kRing)}, {"pp2_sliced", mesh(1, 2, 1, 1), 3}}},
      {Method::kGrpo,
       {{"cp2tp2_cast", mesh(1, 1, 2, 2, k1F1B, 1, 1, kCast)},
        {"cp3_ring_sliced", mesh(1, 1, 3, 1, k1F1B, 1, 1, kRing), 2}}}};
  for (const auto& [method, meshes] : jobs) {
    Config config = config_of({"adapter", method});
    config.adapter.type = "lora", config.adapter.r = 3, config.adapter.init_lora_weights = "false";
    config.adapter.target_modules = {"all-linear"}, config.adapter.lora_dropout = 0.1;
    const Outcome one = run(config, 1, 1, patient());
    for (const Job& job : meshes) {
      SCOPED_TRACE(text(name_of(method), " on ", job.name));
      config.parallel = job.parallel, config.pack.slices = job.slices;
      const Outcome many = run(config, job.parallel.size(), 1, patient());
      EXPECT_NEAR(many.metrics[0].at("loss"), one.metrics[0].at("loss"), 1e-10);
      expect_close(many.gradients, one.gradients, 1e-10, "gradient");
    }
  }
}

/// On a pipeline recomputation has its cost, so that other packs may be planned: then equal up to rounding.
TEST(MeshBits, RecomputationChangesNoBit) {
  for (const Job& job :
       {Job{"tp2cp2", mesh(1, 1, 2, 2)}, Job{"tp2cp2pp2", mesh(1, 2, 2, 2)}, Job{"pp4_zb", mesh(1, 4, 1, 1, kZb)}}) {
    SCOPED_TRACE(job.name);
    Config config = config_of({"grpo", Method::kGrpo});
    config.parallel = job.parallel;
    config.pack.slices = 2;
    const Outcome kept = run(config, job.parallel.size(), 2, patient());
    config.model.gradient_checkpointing = true;
    const Outcome recomputed = run(config, job.parallel.size(), 2, patient());
    if (job.parallel.pp == 1) expect_same_bits(kept.weights, recomputed.weights);
    expect_close(recomputed.weights, kept.weights, 1e-9, "weight");
  }
}

}  // namespace
}  // namespace fpdist::trainer
