#include "tests/kernels/cuda/launches.hpp"

#include <cuda_runtime_api.h>

#include <cstring>
#include <deque>
#include <memory>
#include <regex>

#include "tests/emulation/cuda/fat_binary.hpp"
#include "tests/emulation/cuda/tensor_maps.hpp"

namespace fpdist::test {
namespace {

struct Library {
  std::string text;
  ptx::Module module;  ///< empty until first needed
};
struct Stub {
  Library* library;
  std::string name;
};
struct Program {
  std::deque<Library> library;
  std::map<const void*, Stub> stub;
  std::unique_ptr<Launches> launches = std::make_unique<Launches>();
  dim3 grid, block;  ///< of a <<<>>> under way
  size_t shared = 0;
  cudaStream_t stream = nullptr;
};
Program& program() {
  static auto* const only = new Program;
  return *only;
}

std::shared_ptr<const ptx::Kernel> kernel_at(const void* stub) {
  const Stub& found = program().stub.at(stub);
  for (const auto& [name, kernel] : program().launches->faulty)
    if (plain_name(name) == plain_name(found.name)) return kernel;
  if (found.library->module.empty()) found.library->module = ptx::parse(found.library->text);
  return found.library->module.at(found.name);
}

}  // namespace

Launches& launches() { return *program().launches; }
Launches& fresh_launches(uint64_t seed) {
  program().launches = std::make_unique<Launches>();
  program().launches->options.seed = seed;
  return launches();
}

std::string plain_name(const std::string& mangled) {
  static const std::regex kMark("[0-9]+_GLOBAL__N__[0-9a-f]{8}_[0-9]+_\\w+?_cu_[0-9a-f]{8}");
  return std::regex_replace(mangled, kMark, "_");
}

}  // namespace fpdist::test

using fpdist::test::program;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  return reinterpret_cast<void**>(
      &program().library.emplace_back(fpdist::emulated::ptx_in(wrapper, 90), fpdist::ptx::Module()));
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void** library, const char* stub, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  program().stub[stub] = {reinterpret_cast<fpdist::test::Library*>(library), name};
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  program().grid = grid, program().block = block, program().shared = shared, program().stream = stream;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = program().grid, *block = program().block, *shared = program().shared;
  *static_cast<cudaStream_t*>(stream) = program().stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stub) {
  return *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(stub)), cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t stub, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t) {
  const auto kernel = fpdist::test::kernel_at(stub);
  fpdist::ptx::Launch launch{.grid = {grid.x, grid.y, grid.z},
                             .block = {block.x, block.y, block.z},
                             .dynamic_shared = static_cast<uint32_t>(shared),
                             .parameters = std::vector<uint8_t>(kernel->parameter_bytes)};
  for (size_t i = 0; i < kernel->parameter.size(); ++i)
    std::memcpy(launch.parameters.data() + kernel->parameter[i].offset, arguments[i], kernel->parameter[i].bytes);
  auto& now = fpdist::test::launches();
  fpdist::ptx::run(*kernel, launch, now.memory, now.options, now.counters);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = fpdist::emulated::driver_function(name);
  *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

}  // extern "C"
