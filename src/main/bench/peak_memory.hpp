#pragma once
// main (fpdist_bench): the most memory since a moment: the device's allocator on a GPU, the process on the CPU.

#include <cstdint>

#include "fpdist/comm/device.hpp"

namespace fpdist::bench {

/// On a CPU whose kernel cannot, the peak stays that since the process began.
void reset_peak_memory(comm::Device& device);
/// Bytes; on the CPU of the whole process, 0 where the system does not say.
int64_t peak_memory(const comm::Device& device);

}  // namespace fpdist::bench
