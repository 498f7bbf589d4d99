// Looks for a GPU, cheapest questions first, and opens what device_choice says. The library stays open: torch's CUDA
// half cannot be unloaded.
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include <filesystem>
#include <string>

#include "fpdist/comm/device.hpp"
#include "fpdist/core/error.hpp"
#include "src/comm/cuda_library.hpp"
#include "src/comm/device/device_choice.hpp"

namespace fpdist::comm {
namespace {

std::string last_error() {
  const char* said = dlerror();
  return said ? said : "no reason given";
}

/// Why libcuda.so.1 cannot be opened; empty when it can.
std::string driver_error() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver) return last_error();
  dlclose(driver);
  return "";
}

/// libfpdist_cuda.so in the folder of libfpdist.so.
std::filesystem::path library_path() {
  Dl_info info{};
  const bool is_known = dladdr(reinterpret_cast<const void*>(&open_device), &info) != 0 && info.dli_fname;
  const std::filesystem::path self = is_known ? info.dli_fname : "";
  return self.parent_path() / "libfpdist_cuda.so";
}

}  // namespace

const CudaLibrary* open_cuda_library(DeviceFacts& facts) {
  const std::filesystem::path path = library_path();
  facts.has_library = std::filesystem::exists(path);
  if (!facts.has_library) {
    facts.library_error = "no " + path.string();
    return nullptr;
  }
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (!library) {
    facts.library_error = last_error();
    return nullptr;
  }
  if (!at::detail::getCUDAHooks().hasCUDART()) {  // torch asks once in a process, in the first backward at the latest
    facts.library_error =
        "a backward ran on the CPU before, and torch has settled on having no GPU in this process: open "
        "the device (or make the trainer on it) before the first backward";
    return nullptr;
  }
  void* entry = dlsym(library, kCudaEntry);
  facts.is_same_build = entry != nullptr;
  if (!entry) return nullptr;
  const CudaLibrary* calls = reinterpret_cast<const CudaLibrary* (*)()>(entry)();
  facts.probe = calls->probe();
  return calls;
}

std::unique_ptr<Device> open_device(const std::string& name, const World& world, const DeviceOptions& options,
                                    LogSink& log) {
  check<ConfigError>(options.transport == "nccl" || options.transport == "staged", "transport ", options.transport,
                     ": no such transport; nccl and staged are known");
  if (choose_without_facts(name)) return make_cpu_device();
  DeviceFacts facts{
      .local_rank = world.local_rank(), .local_size = world.local_size(), .share_gpus = options.share_gpus};
  facts.driver_error = driver_error();
  const CudaLibrary* library = facts.driver_error.empty() ? open_cuda_library(facts) : nullptr;
  const ChosenDevice own = choose_device(name, facts);
  const ChosenDevice choice = name == "auto" ? choose_together(own, world.communicator()) : own;
  if (choice.is_gpu) return library->open(choice.gpu, options);
  log.info("device auto: running on the CPU: " + choice.why_no_gpu);
  return make_cpu_device();
}

}  // namespace fpdist::comm
