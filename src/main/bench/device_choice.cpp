#include "src/main/bench/bench.hpp"
#include "src/main/program.hpp"

namespace fpdist::bench {

std::unique_ptr<comm::Device> DeviceOption::open(const comm::World& world) const {
  main_program::ConsoleLog console;
  NullLog quiet;
  return comm::open_device(name, world, options, world.rank() == 0 ? static_cast<LogSink&>(console) : quiet);
}

}  // namespace fpdist::bench
