// Runs a suite of operator laws on one device: PROGRAM [--device cpu|cuda] [GoogleTest's own arguments]. Exit code 77:
// the device is not here, nothing was tested.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "fpdist/comm/world.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/device/why_no_gpu.hpp"

namespace fpdist::test {
namespace {

constexpr int kUsage = 2, kSkipped = 77;
at::DeviceType chosen = at::kCPU;

int run(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);  // takes its own arguments away
  const std::string option = argc > 1 ? argv[1] : "--device", name = argc > 2 ? argv[2] : argc > 1 ? "" : "cpu";
  if (argc > 3 || option != "--device" || (name != "cpu" && name != "cuda")) {
    std::fprintf(stderr, "usage: %s [--device cpu|cuda]\n", argv[0]);
    return kUsage;
  }
  if (name == "cuda") {
    std::string why_not;
    comm::run_threads(1, [&](comm::World& world) { why_not = why_no_gpu(world); });
    if (!why_not.empty()) {
      std::printf("SKIPPED, nothing was tested: %s\n", why_not.c_str());
      return kSkipped;
    }
    chosen = at::kCUDA;
  }
  return RUN_ALL_TESTS();
}

}  // namespace

at::Device where() { return {chosen}; }

}  // namespace fpdist::test

int main(int argc, char** argv) { return fpdist::test::run(argc, argv); }
