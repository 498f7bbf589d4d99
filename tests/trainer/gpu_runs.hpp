#pragma once
// Tests: the same steps on a GPU and on the CPU.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "fpdist/trainer/trainer.hpp"
#include "tests/support/device/why_no_gpu.hpp"
#include "tests/support/random/random_groups.hpp"

namespace fpdist::test {

struct GpuRun {
  std::map<std::string, at::Tensor> gradient, weight;
  double loss = 0, peak_bytes = 0;
};

inline config::Config config_of(Method method, DType dtype, const std::string& device) {
  config::Config config;
  config.method = method;
  config.model.preset = "tiny";
  config.model.dtype = dtype;
  config.model.device = device;
  config.data.path = {"none"};
  config.pack.max_tokens = 128;
  config.optim.learning_rate = 1e-3;
  return config;
}

/// Two steps; gradients and weights on rank 0. Collective.
inline GpuRun run_on(comm::World& world, const config::Config& config) {
  GpuRun result;
  NullLog log;
  trainer::Trainer trainer(world, config, log);
  const auto groups = random_groups(config.method, 6, 11);
  result.loss = trainer.step(groups).values.at("loss");
  result.gradient = trainer.gather_gradients();
  const trainer::StepMetrics second = trainer.step(groups);
  if (second.values.count("memory/peak_bytes")) result.peak_bytes = second.values.at("memory/peak_bytes");
  result.weight = trainer.gather_weights();
  return result;
}

/// The same on one rank of its own.
inline GpuRun run(const config::Config& config) {
  GpuRun result;
  comm::run_threads(1, [&](comm::World& world) { result = run_on(world, config); });
  return result;
}

/// Float32: a thousandth of a percent of the whole gradient.
inline void expect_same(const GpuRun& gpu, const GpuRun& cpu) {
  EXPECT_NEAR(gpu.loss, cpu.loss, 1e-5 * std::max(1.0, std::abs(cpu.loss)));
  double whole = 0;
  for (const auto& [name, gradient] : cpu.gradient) whole += gradient.to(at::kDouble).square().sum().item<double>();
  for (const auto& [name, gradient] : cpu.gradient)
    EXPECT_LT((gpu.gradient.at(name) - gradient).to(at::kDouble).norm().item<double>(), 1e-5 * std::sqrt(whole))
        << name;
}

}  // namespace fpdist::test
