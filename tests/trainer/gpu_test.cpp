// The trainer on a GPU against the trainer on the CPU. Skipped, loudly, where there is none.

#include <dlfcn.h>

#include <filesystem>

#include "fpdist/arch/model.hpp"
#include "fpdist/checkpoint/hf_directory.hpp"
#include "kernels/common/dispatch.hpp"
#include "tests/emulation/cuda/kernel_counts.hpp"
#include "tests/support/device/device_waits.hpp"
#include "tests/support/device/emulated_counts.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/gpu_runs.hpp"

namespace fpdist::trainer {
namespace {

using test::config_of, test::expect_same, test::GpuRun, test::run, test::why_no_gpu;

class TrainerOnGpu : public ::testing::TestWithParam<Method> {
 protected:
  void SetUp() override {
    std::string why_not;
    comm::run_threads(1, [&](comm::World& world) { why_not = why_no_gpu(world); });
    if (!why_not.empty()) GTEST_SKIP() << "NOT RUN: " << why_not;
  }
};

double relative(const at::Tensor& a, const at::Tensor& b) {
  const double size = b.to(at::kDouble).norm().item<double>();
  return (a.to(at::kDouble) - b.to(at::kDouble)).norm().item<double>() / std::max(size, 1e-12);
}

TEST_P(TrainerOnGpu, Float32StepsAreTheCpus) {
  const GpuRun cpu = run(config_of(GetParam(), DType::kFloat32, "cpu"));
  const GpuRun gpu = run(config_of(GetParam(), DType::kFloat32, "cuda"));
  expect_same(gpu, cpu);
  EXPECT_GT(gpu.peak_bytes, 0);
}

/// What generation has on the CPU alone is one line ahead of any step.
TEST(RolloutsOnGpu, RefuseWhatIsForTheCpu) {
  comm::run_threads(1, [&](comm::World& world) {
    if (const std::string why_not = why_no_gpu(world); !why_not.empty()) GTEST_SKIP() << "NOT RUN: " << why_not;
    NullLog log;
    Trainer trainer(world, config_of(Method::kGrpo, DType::kFloat32, "cuda"), log);
    const std::vector<std::vector<int32_t>> prompts{{1, 2, 3}};
    const auto refusal = [&](auto change) {
      generate::SamplingOptions options{.num_generations = 2, .max_completion_length = 3};
      change(options);
      return test::error_of<ConfigError>([&] { trainer.check_rollouts(prompts, options); });
    };
    test::expect_words(refusal([](auto& options) { options.flex_prefill.gamma = 0.9; }),
                       {"flex_prefill.gamma is there on the CPU only: set flex_prefill.gamma: 0 or model.device: cpu"});
    test::expect_words(refusal([](auto& options) { options.prefix_kv.budget = 0.5; }),
                       {"eval.kv_budget is there on the CPU only: set eval.kv_budget: 1 or model.device: cpu"});
    test::expect_words(refusal([](auto& options) {
                         options.prefix_kv.budget = 0.5, options.prefix_kv.dropped = {0.5, 0.5, 0.5, 0.5};
                       }),
                       {"eval.kv_profile is there on the CPU only: set eval.kv_profile: \"\" or model.device: cpu"});
    test::expect_words(refusal([](auto& options) { options.batch_invariant = true; }),
                       {"rollout.batch_invariant is for float32 and bfloat16 on a CPU", "Float on cuda"});
  });
}

TEST_P(TrainerOnGpu, TheSameRunTwiceGivesTheSameBits) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const Config config = config_of(GetParam(), dtype, "cuda");
    const GpuRun first = run(config), again = run(config);
    EXPECT_EQ(first.loss, again.loss);
    for (const auto& [name, weight] : first.weight) EXPECT_TRUE(at::equal(weight, again.weight.at(name))) << name;
  }
}

TEST_P(TrainerOnGpu, Bfloat16StaysAsNearToFloat32AsTheCpuDoes) {
  const GpuRun exact = run(config_of(GetParam(), DType::kFloat32, "cpu"));
  const GpuRun cpu = run(config_of(GetParam(), DType::kBFloat16, "cpu"));
  const GpuRun gpu = run(config_of(GetParam(), DType::kBFloat16, "cuda"));
  for (const auto& [name, gradient] : exact.gradient)
    EXPECT_LT(relative(gpu.gradient.at(name), gradient), 2 * relative(cpu.gradient.at(name), gradient) + 0.01) << name;
}

/// By a trace of the CUDA runtime: nothing waits but the one download of the step's results.
TEST_P(TrainerOnGpu, AStepWaitsForTheDeviceOnce) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    const Config config = config_of(GetParam(), DType::kBFloat16, "cuda");
    Trainer trainer(world, config, log);
    const auto groups = test::random_groups(config.method, 6, 11);
    for (int warm = 0; warm < 2; ++warm) trainer.step(groups);
    const auto waits = test::waits_of([&] { trainer.step(groups); });
    if (!waits) GTEST_SKIP() << "NOT RUN: no trace can be made here (CUPTI is missing or not permitted)";
    EXPECT_EQ(waits->size(), 1U) << ::testing::PrintToString(*waits);
  });
}

INSTANTIATE_TEST_SUITE_P(Methods, TrainerOnGpu,
                         ::testing::Values(Method::kSft, Method::kDpo, Method::kReward, Method::kGrpo),
                         [](const auto& method) { return std::string(name_of(method.param)); });

/// A Llama whose heads are of a size that our attention kernels take, as a directory.
class HeadsOf64 : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why_not;
    comm::run_threads(1, [&](comm::World& world) { why_not = why_no_gpu(world); });
    if (!why_not.empty()) GTEST_SKIP() << "NOT RUN: " << why_not;
    at::manual_seed(64);
    std::vector<std::pair<std::string, at::Tensor>> all;
    const auto add = [&](const std::string& name, at::IntArrayRef sizes) {
      all.emplace_back(name + ".weight", sizes.size() == 1 ? at::ones(sizes) : at::randn(sizes) * 0.05);
    };
    const auto [layers, hidden, intermediate, heads, kv_heads, head_dim, vocab] = kShape;
    add("model.embed_tokens", {vocab, hidden});
    for (int64_t layer = 0; layer < layers; ++layer) {
      const std::string at = "model.layers." + std::to_string(layer) + ".";
      for (const char* const norm : {"input_layernorm", "post_attention_layernorm"}) add(at + norm, {hidden});
      add(at + "self_attn.q_proj", {heads * head_dim, hidden});
      add(at + "self_attn.k_proj", {kv_heads * head_dim, hidden});
      add(at + "self_attn.v_proj", {kv_heads * head_dim, hidden});
      add(at + "self_attn.o_proj", {hidden, heads * head_dim});
      for (const char* const up : {"gate_proj", "up_proj"}) add(at + "mlp." + up, {intermediate, hidden});
      add(at + "mlp.down_proj", {hidden, intermediate});
    }
    add("model.norm", {hidden}), add("lm_head", {vocab, hidden});
    const arch::Model model = arch::model_of_shape("llama", kShape);
    checkpoint::export_hf_directory(
        dir_.string(), all, {.config_json = arch::export_config_json(model, {.dtype = "float32"}), .copy_from = ""});
  }
  Config on(DType dtype, const std::string& device) const {
    Config config = config_of(Method::kDpo, dtype, device);
    config.model.preset = "", config.model.path = dir_.string();
    return config;
  }

  static constexpr arch::ModelShape kShape{
      .layers = 2, .hidden = 96, .intermediate = 160, .heads = 4, .kv_heads = 2, .head_dim = 64, .vocab = 320};
  const test::Scratch scratch_;
  const std::filesystem::path dir_ = scratch_ / "model";
};

TEST_F(HeadsOf64, Bfloat16StaysAsNearToFloat32AsTheCpuDoesThroughOurAttention) {
  const GpuRun exact = run(on(DType::kFloat32, "cpu")), cpu = run(on(DType::kBFloat16, "cpu"));
  const GpuRun gpu = run(on(DType::kBFloat16, "cuda")), again = run(on(DType::kBFloat16, "cuda"));
  for (const auto& [name, gradient] : exact.gradient) {
    EXPECT_LT(relative(gpu.gradient.at(name), gradient), 2 * relative(cpu.gradient.at(name), gradient) + 0.01) << name;
    EXPECT_TRUE(at::equal(gpu.gradient.at(name), again.gradient.at(name))) << name;
  }
  const auto counts_of =
      reinterpret_cast<decltype(&fpdist_emulated_kernel_counts)>(dlsym(RTLD_DEFAULT, "fpdist_emulated_kernel_counts"));
  if (counts_of == nullptr) return;  // a real GPU does not count
  const bool is_hopper = kernels::find_operator<int64_t(int64_t)>("fpdist::compute_capability").call(0) == 90;
  for (const std::string pass : {"forward", "key_gradients", "query_gradients"})
    for (const std::string kernels : {"tree", "portable"}) {
      emulated::KernelCounts counts;
      counts_of((kernels + "_attention_" + pass).c_str(), &counts);
      EXPECT_EQ(counts.launches > 0, (kernels == "tree") == is_hopper) << kernels << " " << pass;
    }
}

/// Launches of a kernel that every pack asks for equally often.
uint64_t norms_so_far() {
  const auto counts_of =
      reinterpret_cast<decltype(&fpdist_emulated_kernel_counts)>(dlsym(RTLD_DEFAULT, "fpdist_emulated_kernel_counts"));
  emulated::KernelCounts counts;
  if (counts_of != nullptr) counts_of("rms_norm_forward", &counts);
  return counts.launches;
}

/// What a pack more adds to a step, by two steps of the same groups: its head's and its loss's few numbers, beside the
/// sums of gradients of the model's two layers.
TEST_F(HeadsOf64, APackAsksForFewOfTorchsOperators) {
  const std::map<Method, double> most{{Method::kSft, 60}, {Method::kDpo, 125}, {Method::kGrpo, 115}};
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    for (const auto& [method, limit] : most) {
      SCOPED_TRACE(name_of(method));
      Config config = on(DType::kBFloat16, "cuda");
      config.method = method;
      const auto groups = test::random_groups(method, 24, 11);
      std::vector<double> operators, packs;
      for (const int64_t tokens : {4096, 128}) {
        config.pack.max_tokens = tokens;
        Trainer trainer(world, config, log);
        trainer.step(groups);
        const uint64_t norms = norms_so_far();
        const auto asked = test::asked_by([&] { trainer.step(groups); });
        if (!asked) GTEST_SKIP() << "SKIPPED: a real GPU does not count";
        operators.push_back(static_cast<double>(asked->operators));
        packs.push_back(static_cast<double>(norms_so_far() - norms));
      }
      const double more = packs[1] / packs[0] - 1;  // the first step is one pack
      ASSERT_GE(more, 1);
      EXPECT_LE((operators[1] - operators[0]) / more, limit);
    }
  });
}

}  // namespace
}  // namespace fpdist::trainer
