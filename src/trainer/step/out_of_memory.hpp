#pragma once
// trainer (private): out of memory on a device: what was wanted, by which op, and the pack size that would have fitted.

#include <cstdint>
#include <string>

#include "fpdist/comm/device.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/trainer/job.hpp"

namespace fpdist::trainer {

/// Bytes in torch's words "Tried to allocate 2.00 GiB"; 0 where they are missing.
int64_t requested_bytes(const std::string& message);

/// The pack.max_tokens below `rows`, the largest pack's, with which a step would have needed no more than the device
/// has, if what it allocates grows with it: `before` bytes were in use before the step, `wanted` bytes when the memory
/// ran out. A multiple of 64 from 640 on; 0: none.
int64_t fitting_max_tokens(int64_t rows, int64_t before, int64_t wanted, int64_t capacity);

/// Throws OutOfMemoryError in place of torch's, `message`, that came at `position` of the step.
[[noreturn]] void throw_out_of_memory(const std::string& message, const std::string& position,
                                      const comm::MemoryUse& before, const plan::StepPlan& plan, const Job& job);

}  // namespace fpdist::trainer
