#pragma once
// What torch's CUDA operators were asked on the emulated GPU: each call is a kernel or more, and reads and writes its
// tensors once or more, so these are floors. Tests find the function by its name (dlsym): it is not there on a real
// one.

#include <cstdint>

namespace fpdist::emulated {

struct OperatorCounts {
  uint64_t calls = 0;
  uint64_t bytes = 0;  ///< of all tensors that went in and came out, each element of a broadcast one once
};

}  // namespace fpdist::emulated

/// The sum over all operators whose name (aten::...) holds `name`, since the process began. Copies from and to the host
/// are "copy from the host" and "copy to the host".
extern "C" void fpdist_emulated_operator_counts(const char* name, fpdist::emulated::OperatorCounts* counts);
