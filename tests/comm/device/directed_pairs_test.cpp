// Messages between neighbours travel on communicators of one directed pair; everything else as before. Which axes have
// a first message behind them.
#include "src/comm/device/directed_pairs.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "src/comm/device/connected_axis.hpp"
#include "src/comm/device/hosts_of_ranks.hpp"
#include "tests/support/device/meta_device.hpp"

namespace fpdist::comm {
namespace {

at::Tensor number(double value) { return at::full({3}, value, at::kDouble); }

TEST(DirectedPairs, NeighboursFirstAndLastAndCollectivesAllFindEachOther) {
  for (const int ranks : {2, 3, 4, 5})
    for (const int direction : {1, -1}) {
      SCOPED_TRACE(text(ranks, " ranks, direction ", direction));
      run_threads(ranks, [&](World& world) {
        DirectedPairs pairs(world.communicator().split("pp", 0, world.rank()), direction, at::kCPU);
        EXPECT_EQ(pairs.traffic().messages, 0) << "connecting counts";
        const int rank = pairs.rank(), to = (rank + direction + ranks) % ranks,
                  from = (rank - direction + ranks) % ranks;
        std::vector<std::unique_ptr<Work>> sent;  // two messages under way in each direction, matched in order
        std::vector<at::Tensor> kept;
        for (const int message : {1, 2}) {
          kept.push_back(number(10 * rank + message));
          pairs.group_begin();
          pairs.send(kept.back(), to);
          sent.push_back(pairs.group_start());
        }
        for (const int message : {1, 2}) {
          at::Tensor arrived = number(0);
          pairs.group_begin();
          pairs.receive(arrived, from);
          pairs.group_end();
          EXPECT_EQ(arrived[2].item<double>(), 10 * from + message);
        }
        for (const auto& work : sent) work->wait();
        if (rank == 0 || rank == ranks - 1) {  // both ends of the pipeline, in one group
          const int other = ranks - 1 - rank;
          at::Tensor theirs = number(0);
          const at::Tensor own = number(100 + rank);
          pairs.group_begin();
          pairs.send(own, other);
          pairs.receive(theirs, other);
          pairs.group_end();
          EXPECT_EQ(theirs[0].item<double>(), 100 + other);
        }
        at::Tensor sum = number(rank);
        pairs.all_reduce(sum, ReduceOp::kSum);
        EXPECT_EQ(sum[0].item<double>(), ranks * (ranks - 1) / 2);
        EXPECT_GE(pairs.traffic().messages, 2);
      });
    }
}

TEST(DirectedPairs, ADevicesPipelineNeverQueuesASendAndAReceiveOnOneCommunicator) {
  run_threads(2, [](World& world) {
    test::MetaDevice device;
    const Mesh mesh(world, {.dp = 1, .pp = 2}, &device);
    // One pair after the other, both ends in one order: who sends first in one, receives first in the next.
    const std::vector<std::string> first{"pp: group 1 0", "pp: group 0 1", "pp_gradient: group 1 0",
                                         "pp_gradient: group 0 1"};
    const std::vector<std::string> second{first[1], first[0], first[3], first[2]};
    EXPECT_EQ(device.log.lines, world.rank() == 0 ? first : second);
    device.log.lines.clear();
    at::Tensor rows = at::empty({4}, at::TensorOptions(at::kFloat).device(at::kMeta));
    mesh.pp().group_begin();
    mesh.pp().send(rows, 1 - world.rank());
    mesh.pp().receive(rows, 1 - world.rank());
    mesh.pp().group_end();
    const std::vector<std::string> expected{"pp: group 1 0", "pp: group 0 1"};
    EXPECT_EQ(device.log.lines, expected);
  });
}

TEST(ConnectedAxis, HasAFirstMessageBehindItThatDoesNotCount) {
  run_threads(3, [](World& world) {
    test::MetaDevice device;
    const Mesh mesh(world, {.dp = 1, .cp = 3}, &device);
    const std::vector<std::string> expected{"cp: group 2 2", "cp_gradient: group 2 2"};
    EXPECT_EQ(device.log.lines, expected);
    ConnectedAxis axis(world.communicator().split("cp", 0, world.rank()), at::kCPU);
    EXPECT_EQ(axis.traffic().messages, 0);
    at::Tensor sum = number(world.rank());
    axis.all_reduce(sum, ReduceOp::kSum);
    EXPECT_EQ(sum[0].item<double>(), 3);
    EXPECT_GT(axis.traffic().messages, 0);
  });
}

TEST(HostsOfRanks, AreKnownForEveryPartOfThoseThatWereAsked) {
  run_threads(4, [](World& world) {
    const auto some = world.communicator().split("some", world.rank() == 0 ? 0 : 1, world.rank());
    if (world.rank() == 0) return;
    const HostsOfRanks hosts(*some, world.rank() < 3 ? "a" : "b");
    EXPECT_TRUE(hosts.are_several(std::vector{1, 2, 3}));
    EXPECT_TRUE(hosts.are_several(std::vector{3, 1}));
    EXPECT_FALSE(hosts.are_several(std::vector{2, 1}));
    EXPECT_FALSE(hosts.are_several(std::vector{3}));
    EXPECT_FALSE(HostsOfRanks(*some).are_several(std::vector{1, 2, 3})) << "one machine runs this test";
  });
}

}  // namespace
}  // namespace fpdist::comm
