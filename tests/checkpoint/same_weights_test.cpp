#include "src/checkpoint/same_weights.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;

/// Two nodes with a copy each of a model; ranks see the one of their node.
class SameWeights : public ::testing::Test {
 protected:
  SameWeights() {
    at::manual_seed(1);
    tensors_ = {
        {"cube", at::randn({4, 6, 3})}, {"flat", at::randn({7})}, {"one", at::randn({})}, {"rows", at::randn({8, 5})}};
    write("a", tensors_);
    write("b", tensors_);
  }
  void write(const std::string& node, const NamedTensors& tensors) const {
    export_hf_directory(scratch_ / node, tensors, {.config_json = "{}", .max_shard_bytes = 200});
  }
  /// Writes node b's copy with one element of `name` changed.
  void change(const std::string& name, int64_t element) const {
    NamedTensors tensors;
    for (const auto& [own, value] : tensors_) {
      tensors.emplace_back(own, value.clone());
      if (own == name) tensors.back().second.view({-1})[element] += 1e-6;
    }
    write("b", tensors);
  }
  using Read = std::function<void(const HfDirectory&, int rank)>;
  /// Rank `rank` of four is on the node that `nodes` names: "aabb". Each reads what `read` says.
  std::string refusal(const std::string& nodes, const Read& read) const {
    return test::refusal<ModelFileError>([&] {
      comm::run_threads(static_cast<int>(nodes.size()), [&](comm::World& world) {
        const HfDirectory directory(scratch_ / std::string(1, nodes[static_cast<size_t>(world.rank())]));
        read(directory, world.rank());
        check_same_weights(directory, world.communicator());
      });
    });
  }
  /// Half of dim 1 of the cube and of the rows, by the rank's parity, and all else.
  static void read_halves(const HfDirectory& directory, int rank) {
    for (const char* name : {"one", "flat"}) {
      at::Tensor whole = at::empty(directory.file_with(name).tensors().at(name).shape);
      directory.read_into(name, whole);
    }
    at::Tensor cube = at::empty({4, 3, 3}), rows = at::empty({4, 5});
    directory.read_slice_into("cube", {4, 6, 3}, 1, 3 * (rank % 2), cube);
    directory.read_slice_into("rows", {8, 5}, 0, 4 * (rank % 2), rows);
  }

  const test::Scratch scratch_;
  NamedTensors tensors_;
};

TEST_F(SameWeights, CopiesAreTheSameAndTheSameFilesAreNotEvenLookedAt) {
  EXPECT_EQ(refusal("aabb", read_halves), "accepted");
  EXPECT_EQ(refusal("abab", read_halves), "accepted");
  comm::run_threads(2, [&](comm::World& world) {
    const HfDirectory directory(scratch_ / "a");
    read_halves(directory, world.rank());
    check_same_weights(directory, world.communicator());
    EXPECT_LT(world.communicator().traffic().bytes, 1000);
  });
}

TEST_F(SameWeights, EveryElementThatARankReadsElsewhereIsHeldAgainstRankZeros) {
  for (const auto& [name, value] : tensors_)
    for (int64_t element = 0; element < value.numel(); element += 3) {
      change(name, element);
      const std::string what = refusal("aabb", read_halves);
      test::expect_words(what, {name + ": values other than rank 0's on rank"});
      // A half is read by one rank of node b, the rest by both.
      const bool second = name == "cube" ? element / 3 % 6 >= 3 : element >= 20;
      const bool is_half = name == "cube" || name == "rows";
      test::expect_words(what, {!is_half ? "on ranks 2-3" : second ? "on rank 3" : "on rank 2"});
    }
}

TEST_F(SameWeights, SlicesThatNobodyElseReadsAreComparedAsWell) {
  const Read own_quarter = [](const HfDirectory& directory, int rank) {
    at::Tensor rows = at::empty({2, 5});
    directory.read_slice_into("rows", {8, 5}, 0, 2 * rank, rows);
  };
  change("rows", 33);  // row 6: rank 3's alone
  test::expect_words(refusal("aaab", own_quarter), {"rows: values other than rank 0's on rank 3"});
  EXPECT_EQ(refusal("aaba", own_quarter), "accepted") << "what differs was read by nobody on node b";
  change("rows", 0);
  EXPECT_EQ(refusal("abbb", own_quarter), "accepted") << "row 0 is read from node a alone";
}

TEST_F(SameWeights, OtherTensorsAreNamed) {
  tensors_[1].second = at::randn({8});
  write("b", tensors_);
  test::expect_words(refusal("ab", [](const HfDirectory&, int) {}), {"flat: Float [7] on rank 0, Float [8] on rank 1"});
}

TEST_F(SameWeights, ALinkToRankZerosFilesIsRankZerosFiles) {
  fs::create_directory_symlink(scratch_ / "a", scratch_ / "c");
  fs::create_directories(scratch_ / "d");
  for (const auto& entry : fs::directory_iterator(scratch_ / "a"))
    fs::create_hard_link(entry.path(), fs::path(scratch_ / "d") / entry.path().filename());
  for (const char* nodes : {"ac", "ad"}) EXPECT_EQ(refusal(nodes, read_halves), "accepted");
}

}  // namespace
}  // namespace fpdist::checkpoint
