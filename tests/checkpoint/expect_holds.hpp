#pragma once
// Tests: what a Hugging Face directory holds.

#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <string>

#include "fpdist/checkpoint/hf_directory.hpp"

namespace fpdist::test {

/// The weights of a Hugging Face directory are these, bit for bit.
inline void expect_holds(const std::string& directory, const checkpoint::NamedTensors& tensors) {
  const checkpoint::HfDirectory there(directory);
  EXPECT_EQ(there.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    at::Tensor got = at::empty_like(tensor);
    there.read_into(name, got);
    EXPECT_TRUE(at::equal(got, tensor)) << name;
  }
}

}  // namespace fpdist::test
