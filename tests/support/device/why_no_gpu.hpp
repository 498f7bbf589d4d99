#pragma once
// Tests: whether there is a GPU, asked as the programs ask.

#include <string>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/log.hpp"

namespace fpdist::test {

/// Why there is no GPU to test on; empty: there is one, and libfpdist_cuda.so is open with its operators.
inline std::string why_no_gpu(const comm::World& world) {
  NullLog log;
  try {
    (void)comm::open_device("cuda", world, {.share_gpus = true}, log);
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

}  // namespace fpdist::test
