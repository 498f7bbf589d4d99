// Our kernels on the emulated GPU: their PTX is found when libfpdist_cuda registers them, and a launch runs it on the
// PTX machine (tests/emulation/ptx) when its turn on the stream comes. Kernels of other libraries have no PTX, nor have
// ours for a newer GPU than this one; whoever launches one ends the process with a word, for its operator is to be
// redispatched (redispatch.cpp). So does a fault.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/emulation/cuda/device.hpp"
#include "tests/emulation/cuda/fat_binary.hpp"
#include "tests/emulation/cuda/kernel_counts.hpp"
#include "tests/emulation/cuda/memory.hpp"
#include "tests/emulation/cuda/streams.hpp"
#include "tests/emulation/ptx/machine.hpp"

namespace fpdist::emulated {
namespace {

constexpr size_t kUnannounced = 48 << 10;  // dynamic shared memory beyond it is to be announced

[[noreturn]] void end(const std::string& why) {
  std::fputs(("emulated GPU: " + why + "\n").c_str(), stderr);
  std::abort();
}

/// One that the runtime registered and that has PTX; parsed when first needed.
class Library {
 public:
  explicit Library(std::string text) : text_(std::move(text)) {}
  std::shared_ptr<const ptx::Kernel> kernel(const std::string& name) {
    std::call_once(parsed_, [&] {
      try {
        module_ = ptx::parse(text_);
      } catch (const ptx::Fault& fault) {
        end(fault.what());
      }
    });
    const auto found = module_.find(name);
    if (found == module_.end()) end("the PTX holds no kernel " + name);
    return found->second;
  }

 private:
  std::string text_;
  std::once_flag parsed_;
  ptx::Module module_;
};

/// A kernel by the address of its stub on the host.
struct Stub {
  Library* library = nullptr;
  std::string name;
  size_t announced = kUnannounced;
};

/// Never destroyed: streams may still run.
struct Kernels {
  std::mutex mutex;
  std::vector<std::unique_ptr<Library>> library;
  std::map<const void*, Stub> stub;
  std::map<std::string, ptx::Counters> counters;
};
Kernels& kernels() {
  static auto* const all = new Kernels;
  return *all;
}

Library* library_of(void** handle) {
  Kernels& all = kernels();
  const std::lock_guard lock(all.mutex);
  for (const auto& library : all.library)
    if (static_cast<void*>(library.get()) == static_cast<void*>(handle)) return library.get();
  return nullptr;
}

class DeviceMemory : public ptx::GlobalMemory {
 public:
  ptx::Extent find(uint64_t address) override {
    const auto [begin, end] = allocation_before(address);
    return {begin, end, nullptr};
  }
};

void run(const ptx::Kernel& kernel, const ptx::Launch& launch) {
  DeviceMemory memory;
  ptx::Counters counters;
  static const char* const seed = std::getenv("FPDIST_EMULATED_SEED");
  try {
    ptx::run(kernel, launch, memory, {.seed = seed ? std::strtoull(seed, nullptr, 10) : 0}, counters);
  } catch (const ptx::Fault& fault) {
    end(fault.what());
  }
  Kernels& all = kernels();
  const std::lock_guard lock(all.mutex);
  ptx::Counters& sum = all.counters[kernel.name];
  ++sum.launches;
  sum.global_requests += counters.global_requests, sum.global_sectors += counters.global_sectors;
  sum.least_sectors += counters.least_sectors;
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
  Stub stub;
  {
    Kernels& all = kernels();
    const std::lock_guard lock(all.mutex);
    const auto found = all.stub.find(function);
    if (found == all.stub.end()) end("a kernel was launched; its operator is not redispatched to the CPU");
    stub = found->second;
  }
  if (shared > stub.announced) end(stub.name + ": more dynamic shared memory than cudaFuncSetAttribute announced");
  const auto kernel = stub.library->kernel(stub.name);
  ptx::Launch queued{.grid = {grid.x, grid.y, grid.z},
                     .block = {block.x, block.y, block.z},
                     .dynamic_shared = static_cast<uint32_t>(shared),
                     .parameters = std::vector<uint8_t>(kernel->parameter_bytes)};
  for (size_t i = 0; i < kernel->parameter.size(); ++i)
    std::memcpy(queued.parameters.data() + kernel->parameter[i].offset, arguments[i], kernel->parameter[i].bytes);
  stream_of(stream).push([kernel, queued = std::move(queued)] { run(*kernel, queued); });
  return cudaSuccess;
}

/// The runtime's own, for libraries that are not ours.
template <typename Signature>
Signature* runtime(const char* name) {
  auto* const found = reinterpret_cast<Signature*>(dlsym(RTLD_NEXT, name));
  if (found == nullptr) end(std::string("the CUDA runtime lacks ") + name);
  return found;
}

}  // namespace
}  // namespace fpdist::emulated

using namespace fpdist::emulated;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  std::string text = ptx_in(wrapper, compute_capability());
  if (text.empty()) return runtime<void**(void*)>("__cudaRegisterFatBinary")(wrapper);
  Kernels& all = kernels();
  const std::lock_guard lock(all.mutex);
  return reinterpret_cast<void**>(all.library.emplace_back(std::make_unique<Library>(std::move(text))).get());
}
void __cudaRegisterFatBinaryEnd(void** handle) {
  if (library_of(handle) == nullptr) runtime<void(void**)>("__cudaRegisterFatBinaryEnd")(handle);
}
void __cudaUnregisterFatBinary(void** handle) {
  if (library_of(handle) == nullptr) runtime<void(void**)>("__cudaUnregisterFatBinary")(handle);
}
void __cudaRegisterFunction(void** handle, const char* stub, char* function, const char* name, int limit, uint3* tid,
                            uint3* bid, dim3* block, dim3* grid, int* warp_size) {
  if (Library* const library = library_of(handle)) {
    Kernels& all = kernels();
    const std::lock_guard lock(all.mutex);
    all.stub[stub] = {.library = library, .name = name};
    return;
  }
  runtime<void(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*, dim3*, int*)>(
      "__cudaRegisterFunction")(handle, stub, function, name, limit, tid, bid, block, grid, warp_size);
}
void __cudaRegisterVar(void** handle, char* host, char* device, const char* name, int external, size_t bytes,
                       int is_constant, int is_global) {
  if (library_of(handle) != nullptr) end(std::string("a variable on the device is not modelled: ") + name);
  runtime<void(void**, char*, char*, const char*, int, size_t, int, int)>("__cudaRegisterVar")(
      handle, host, device, name, external, bytes, is_constant, is_global);
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stub) {
  return *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(stub)), cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return launch(kernel, grid, block, arguments, shared, stream);
}
cudaError_t cudaLaunchKernel(const void* stub, dim3 grid, dim3 block, void** arguments, size_t shared,
                             cudaStream_t stream) {
  return launch(stub, grid, block, arguments, shared, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* stub, void** arguments) {
  if (config->numAttrs != 0) end("a launch with attributes is not modelled");
  return launch(stub, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes, config->stream);
}
cudaError_t cudaFuncSetAttribute(const void* stub, cudaFuncAttribute attribute, int value) {
  Kernels& all = kernels();
  const std::lock_guard lock(all.mutex);
  const auto found = all.stub.find(stub);
  if (found != all.stub.end() && attribute == cudaFuncAttributeMaxDynamicSharedMemorySize)
    found->second.announced = static_cast<size_t>(value);
  return cudaSuccess;
}

void fpdist_emulated_kernel_counts(const char* name, KernelCounts* counts) {
  Kernels& all = kernels();
  const std::lock_guard lock(all.mutex);
  *counts = {};
  for (const auto& [kernel, sum] : all.counters) {
    if (kernel.find(name) == std::string::npos) continue;
    counts->launches += sum.launches, counts->requests += sum.global_requests;
    counts->sectors += sum.global_sectors, counts->least_sectors += sum.least_sectors;
  }
}

}  // extern "C"
