#include "fpdist/comm/device.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::comm {

std::unique_ptr<Device> open_device(const std::string& name, const World&, const DeviceOptions&, LogSink&) {
  check<ConfigError>(name != "cuda", "model.device is cuda: this build has no GPU library; use cpu or auto");
  return make_cpu_device();
}

}  // namespace fpdist::comm
