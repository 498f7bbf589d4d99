#pragma once
// comm, private: one GPU as a Device.

#include <memory>

#include "fpdist/comm/device.hpp"

namespace fpdist::comm {

/// Takes GPU `index` for this process: torch's current device from here on.
std::unique_ptr<Device> open_cuda_device(int index, const DeviceOptions& options);

}  // namespace fpdist::comm
