#pragma once
// What the tests of this room do with files.

#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/full_disk.hpp"
#include "tests/support/scratch.hpp"

namespace fpdist::checkpoint {

using test::contains;
using test::error_of;
using test::FileSizeLimit;
using test::names_in;
using test::Scratch;
using test::slurp;
using test::spill;

/// The weights of a Hugging Face directory are these, bit for bit.
inline void expect_holds(const std::string& directory, const NamedTensors& tensors) {
  const HfDirectory there(directory);
  EXPECT_EQ(there.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    at::Tensor got = at::empty_like(tensor);
    there.read_into(name, got);
    EXPECT_TRUE(at::equal(got, tensor)) << name;
  }
}

}  // namespace fpdist::checkpoint
