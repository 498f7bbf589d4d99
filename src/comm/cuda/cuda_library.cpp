// The way into libfpdist_cuda.
#include "src/comm/cuda_library.hpp"

#include <cuda_runtime_api.h>

#include "src/comm/cuda/cuda_device.hpp"

namespace fpdist::comm {
namespace {

CudaProbe probe() {
  CudaProbe found;
  const cudaError_t error = cudaGetDeviceCount(&found.gpus);
  found.error = static_cast<int>(error);
  found.error_text = cudaGetErrorString(error);
  cudaGetLastError();  // the next call starts clean
  if (error != cudaSuccess) found.gpus = 0;
  if (cudaDriverGetVersion(&found.driver_version) != cudaSuccess) found.driver_version = 0;
  if (cudaRuntimeGetVersion(&found.runtime_version) != cudaSuccess) found.runtime_version = 0;
  return found;
}

const CudaLibrary library{.probe = probe, .open = open_cuda_device};

}  // namespace
}  // namespace fpdist::comm

extern "C" __attribute__((visibility("default"))) const fpdist::comm::CudaLibrary* FPDIST_CUDA_ENTRY() {
  return &fpdist::comm::library;
}
