// Generation on a GPU: the CPU's tokens, and what a step that decodes asks of the GPU and of the host.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include "fpdist/comm/device.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/generate/generate.hpp"
#include "tests/emulation/aten/operator_counts.hpp"
#include "tests/emulation/cuda/kernel_counts.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/device/device_waits.hpp"
#include "tests/support/device/emulated_counts.hpp"
#include "tests/support/device/why_no_gpu.hpp"

namespace fpdist::generate {
namespace {

using Tokens = std::vector<int32_t>;

constexpr arch::ModelShape kShape{
    .layers = 2, .hidden = 32, .intermediate = 40, .heads = 4, .kv_heads = 2, .head_dim = 64, .vocab = 61};

/// The same weights on the CPU and on a GPU.
struct Twins {
  explicit Twins(at::ScalarType dtype, at::Device device)
      : config(small()), host(config, {.dtype = dtype}), there(config, {.dtype = dtype, .device = device}) {
    const at::NoGradGuard no_grad;
    test::randomize(host, 5);
    for (size_t i = 0; i < host.parameters().size(); ++i)
      there.parameters()[i]->value.copy_(host.parameters()[i]->value);
  }
  static arch::Model small() {
    arch::Model config = arch::model_of_shape("llama", kShape);
    config.initializer_range = 0.1;
    return config;
  }
  arch::Model config;
  model::Transformer host, there;
};

/// run(device) where there is one.
void on_gpu(const std::function<void(comm::Device&)>& run) {
  comm::run_threads(1, [&](comm::World& world) {
    if (const std::string why_not = test::why_no_gpu(world); !why_not.empty()) GTEST_SKIP() << "NOT RUN: " << why_not;
    NullLog log;
    run(*comm::open_device("cuda", world, {.share_gpus = true}, log));
  });
}

std::vector<Tokens> some_prompts(uint64_t seed) {
  Rng rng(seed);
  std::vector<Tokens> prompts(4);
  Tokens preamble(40 + rng.below(60));
  const auto draw = [&] { return static_cast<int32_t>(rng.below(static_cast<uint64_t>(kShape.vocab))); };
  for (int32_t& token : preamble) token = draw();
  for (Tokens& prompt : prompts) {
    prompt.assign(preamble.begin(), preamble.end() - static_cast<int64_t>(rng.below(30)));
    for (uint64_t more = 1 + rng.below(20); more > 0; --more) prompt.push_back(draw());
  }
  return prompts;
}

uint64_t launches_of(const char* kernel) {
  const auto counts_of =
      reinterpret_cast<decltype(&fpdist_emulated_kernel_counts)>(dlsym(RTLD_DEFAULT, "fpdist_emulated_kernel_counts"));
  if (counts_of == nullptr) return 0;
  emulated::KernelCounts counts;
  counts_of(kernel, &counts);
  return counts.launches;
}

TEST(GenerateOnGpu, GivesTheCpusTokens) {
  on_gpu([](comm::Device& device) {
    for (const auto& [seed, temperature] : {std::pair<uint64_t, double>{1, 0.0}, {2, 0.9}}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", temperature " << temperature);
      Twins twins(at::kFloat, device.where());
      const std::vector<Tokens> prompts = some_prompts(seed);
      const SamplingOptions options{
          .num_generations = 3, .max_completion_length = 5, .temperature = temperature, .seed = seed};
      const auto wanted = generate({{&twins.host}}, prompts, options);
      const uint64_t before = launches_of("decode_attention");
      const auto got = generate({{&twins.there}}, prompts, options);
      // A chunks' and a merge's a layer, in each step that decodes alone.
      if (test::asked_so_far()) {
        EXPECT_EQ(launches_of("decode_attention") - before, 2u * 2u * 4u);
      }
      for (size_t p = 0; p < prompts.size(); ++p)
        for (size_t i = 0; i < got[p].size(); ++i) {
          EXPECT_EQ(got[p][i].token, wanted[p][i].token);
          for (size_t t = 0; t < got[p][i].logp.size(); ++t) EXPECT_NEAR(got[p][i].logp[t], wanted[p][i].logp[t], 1e-5);
        }
    }
  });
}

struct AskedOfStep {
  uint64_t operators, launches, uploads, downloads;
  int64_t waits;
};

/// By the difference of a run of more steps.
std::optional<AskedOfStep> asked_of_step(model::Transformer& model, const SamplingOptions& options) {
  const auto operators = reinterpret_cast<decltype(&fpdist_emulated_operator_counts)>(
      dlsym(RTLD_DEFAULT, "fpdist_emulated_operator_counts"));
  const auto waits = reinterpret_cast<int64_t (*)()>(dlsym(RTLD_DEFAULT, "fpdist_emulated_waits"));
  if (operators == nullptr || waits == nullptr) return std::nullopt;
  const auto calls = [&](const char* name) {
    emulated::OperatorCounts counts;
    operators(name, &counts);
    return counts.calls;
  };
  const auto now = [&] {
    return AskedOfStep{calls("aten::"), launches_of(""), calls("copy from the host"), calls("copy to the host"),
                       waits()};
  };
  const auto asked_of = [&](int64_t length) {
    SamplingOptions own = options;
    own.max_completion_length = length;
    const AskedOfStep before = now();
    (void)generate({{&model}}, some_prompts(1), own);
    const AskedOfStep after = now();
    return AskedOfStep{after.operators - before.operators, after.launches - before.launches,
                       after.uploads - before.uploads, after.downloads - before.downloads, after.waits - before.waits};
  };
  asked_of(3);
  const AskedOfStep few = asked_of(3), more = asked_of(7);
  return AskedOfStep{(more.operators - few.operators) / 4, (more.launches - few.launches) / 4,
                     (more.uploads - few.uploads) / 4, (more.downloads - few.downloads) / 4,
                     (more.waits - few.waits) / 4};
}

TEST(GenerateOnGpu, AStepAsksLittle) {
  on_gpu([](comm::Device& device) {
    for (const double temperature : {0.0, 1.0}) {
      SCOPED_TRACE(temperature);
      Twins twins(at::kBFloat16, device.where());
      const auto step = asked_of_step(twins.there, {.num_generations = 4, .temperature = temperature});
      if (!step) GTEST_SKIP() << "a real GPU does not count";
      // Two norms, two rotations, SwiGLU and attention's two a layer, and the last norm.
      EXPECT_EQ(step->launches, 7u * 2u + 1u);
      // Of torch, two copies into the kept keys a layer; the embedding, rotary tables, the head and what draws.
      EXPECT_LE(step->operators, 26u);
      // The rows and attention's plan, and with a temperature the blocks that draws fall into.
      EXPECT_EQ(step->uploads, temperature == 0 ? 2u : 3u);
      // What was drawn; with a temperature the sums of blocks first.
      EXPECT_EQ(step->downloads, temperature == 0 ? 1u : 2u);
      EXPECT_EQ(step->waits, temperature == 0 ? 1 : 2);
    }
  });
}

}  // namespace
}  // namespace fpdist::generate
