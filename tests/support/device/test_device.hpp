#pragma once
// Tests: the device whose operators a run of a test program is about: `--device cpu` (default) or `--device cuda`,
// which device_main.cpp reads. Tensors are made on the CPU, from the same seeds whatever the device, and taken there;
// results come back before anything is said about them.

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include "tests/support/laws/tolerance.hpp"

namespace fpdist::test {

/// Where the operators under test run.
at::Device where();

inline at::Tensor there(const at::Tensor& host) { return host.to(where()); }

/// A result on the CPU; it must have been made there.
inline at::Tensor here(const at::Tensor& result) {
  EXPECT_EQ(result.device().type(), where().type()) << "the result lies where no operator under test ran";
  return result.to(at::kCPU);
}

}  // namespace fpdist::test
