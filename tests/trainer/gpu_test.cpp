// The trainer on a GPU against the trainer on the CPU. Skipped, loudly, where there is none.

#include "tests/support/device/device_waits.hpp"
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

}  // namespace
}  // namespace fpdist::trainer
