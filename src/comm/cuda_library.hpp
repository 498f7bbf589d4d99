#pragma once
// comm, private: what libfpdist asks of libfpdist_cuda. One symbol, found by its name; the number in it grows with
// every change of this struct, so that libraries of two builds refuse each other by name.

#include <memory>
#include <string>

#include "fpdist/comm/device.hpp"

namespace fpdist::comm {

/// What CUDA says before anything is allocated.
struct CudaProbe {
  int error = 0;             ///< cudaError_t of counting the GPUs: 0, 35 (driver too old or none), 100 (no GPU), ...
  std::string error_text{};  ///< CUDA's words for it
  int gpus = 0;
  int driver_version = 0;   ///< newest CUDA that the driver knows, 1000 major + 10 minor; 0 without a driver
  int runtime_version = 0;  ///< CUDA that the library was built for
};

struct CudaLibrary {
  CudaProbe (*probe)();
  /// Takes GPU `index` for this process.
  std::unique_ptr<Device> (*open)(int index, const DeviceOptions& options);
};

#define FPDIST_CUDA_ENTRY fpdist_cuda_library_1
inline constexpr const char* kCudaEntry = "fpdist_cuda_library_1";

}  // namespace fpdist::comm
