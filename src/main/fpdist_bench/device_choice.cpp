#include "fpdist/core/error.hpp"
#include "src/main/fpdist_bench/bench.hpp"
#include "src/main/program.hpp"

namespace fpdist::bench {

std::unique_ptr<comm::Device> DeviceChoice::open(const comm::World& world) const {
  (void)world;
  check<ConfigError>(name == "cpu" || name == "auto", "--device ", name, ": this build has the CPU alone");
  return comm::make_cpu_device();
}

}  // namespace fpdist::bench
