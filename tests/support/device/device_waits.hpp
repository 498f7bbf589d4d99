#pragma once
// Tests: how often the host waits for the device while something runs, by what the CUDA runtime was called for: from a
// trace (torch's Kineto, so CUPTI), or from the emulated GPU itself.

#include <dlfcn.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace fpdist::test {

/// The calls that waited, by name; nothing where no trace can be made.
inline std::optional<std::vector<std::string>> waits_of(const std::function<void()>& body) {
  using torch::profiler::impl::ActivityType;
  std::vector<std::string> waits;
  if (void* const counter = dlsym(RTLD_DEFAULT, "fpdist_emulated_waits")) {
    const auto count = reinterpret_cast<int64_t (*)()>(counter);
    const int64_t before = count();
    body();
    waits.assign(static_cast<size_t>(count() - before), "a wait of the emulated GPU");
    return waits;
  }
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  const std::set<ActivityType> activities{ActivityType::CPU, ActivityType::CUDA};
  torch::autograd::profiler::prepareProfiler(config, activities);
  torch::autograd::profiler::enableProfiler(config, activities);
  body();
  const auto trace = torch::autograd::profiler::disableProfiler();
  static const std::set<std::string> kWaits{
      "cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize", "cudaMemcpy", "cudaFree",
      "cudaFreeHost"};
  bool has_launches = false;
  for (const auto& event : trace->events()) {
    const std::string name = event.name();
    has_launches = has_launches || name.rfind("cudaLaunchKernel", 0) == 0;
    if (kWaits.count(name) != 0) waits.push_back(name);
  }
  return has_launches ? std::optional(waits) : std::nullopt;
}

}  // namespace fpdist::test
