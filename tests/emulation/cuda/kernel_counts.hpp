#pragma once
// What our kernels moved on the emulated GPU. Tests find the function by its name (dlsym): it is not there on a real
// one.

#include <cstdint>

namespace fpdist::emulated {

struct KernelCounts {
  uint64_t launches = 0;
  uint64_t requests = 0, sectors = 0, least_sectors = 0;  ///< of global memory, as ptx::Counters has them
};

}  // namespace fpdist::emulated

/// The sum over all kernels whose mangled name holds `name`, since the process began; the device must be idle.
extern "C" void fpdist_emulated_kernel_counts(const char* name, fpdist::emulated::KernelCounts* counts);
