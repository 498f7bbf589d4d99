// Which way a tensor goes, without a device: tensors of the Meta device stand for a GPU's, and a side that only writes
// down what it is asked.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/world.hpp"
#include "src/comm/device/routed_communicator.hpp"
#include "tests/support/device/meta_device.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::comm {
namespace {

using test::error_of, test::contains, test::MetaDevice;

using Log = test::SideLog;

at::Tensor meta(int64_t count) { return at::empty({count}, at::TensorOptions(at::kFloat).device(at::kMeta)); }

/// body(communicator, log) on two ranks.
void run_routed(const std::function<void(Communicator&, Log&)>& body) {
  run_threads(2, [&](World& world) {
    MetaDevice device;
    const auto routed = device.extend(world.communicator().split("dp", 0, world.rank()));
    body(*routed, device.log);
  });
}

TEST(Routed, TensorsGoWhereTheyLive) {
  run_routed([](Communicator& c, Log& log) {
    at::Tensor cpu = at::full({2}, c.rank() + 1.0, at::kFloat), far = meta(2), far_all = meta(4);
    const std::vector<int64_t> counts = {2, 2}, halves = {1, 1};
    c.all_reduce(cpu);
    EXPECT_EQ(cpu[0].item<float>(), 3.0F);
    EXPECT_TRUE(log.lines.empty());
    c.all_reduce(far);
    c.all_gather_v(far, far_all, counts);
    c.reduce_scatter_v(far_all, far, counts);
    c.all_to_all_v(far, halves, far, halves);
    c.broadcast(far, 1);
    c.keep_buffer(far);
    c.keep_buffer(cpu);
    c.start_all_reduce(far)->wait();
    c.barrier();
    const std::vector<std::string> expected = {"dp: all_reduce",   "dp: all_gather_v", "dp: reduce_scatter_v",
                                               "dp: all_to_all_v", "dp: broadcast",    "dp: keep_buffer",
                                               "dp: all_reduce"};
    EXPECT_EQ(log.lines, expected);
  });
}

TEST(Routed, AGroupMayCarryTensorsOfBothPlaces) {
  run_routed([](Communicator& c, Log& log) {
    const int peer = 1 - c.rank();
    at::Tensor out = at::full({3}, c.rank() * 1.0, at::kDouble), in = at::zeros({3}, at::kDouble), far = meta(2);
    c.group_begin();
    c.send(out, peer);
    c.receive(in, peer);
    c.send(far, c.rank());
    c.receive(far, c.rank());
    c.group_end();
    EXPECT_EQ(in[2].item<double>(), peer);
    c.group_begin();
    c.send(far, peer);
    c.group_start()->wait();
    EXPECT_EQ(log.lines, (std::vector<std::string>{"dp: group 1 1", "dp: group 1 0"}));
    c.group_begin();
    c.send(far, peer);
    EXPECT_TRUE(contains(error_of<CommError>([&] { c.send(out, peer); }), "a second send"));
    c.group_begin();  // the refused group is gone on both sides
    at::Tensor same_length = meta(6);
    c.send(out, c.rank());
    c.receive(same_length, c.rank());
    EXPECT_TRUE(contains(error_of<CommError>([&] { c.group_end(); }), "received on meta"));
  });
}

TEST(Routed, TensorsThatFitNowhereAreRefused) {
  run_routed([](Communicator& c, Log& log) {
    at::Tensor far = meta(2), cpu = at::zeros({4}, at::kFloat), short_far = meta(3);
    const std::vector<int64_t> counts = {2, 2};
    const auto refused = [](const std::function<void()>& call) { return error_of<ShapeError>(call); };
    EXPECT_TRUE(contains(refused([&] { c.all_gather_v(far, cpu, counts); }), "are on meta and cpu"));
    EXPECT_TRUE(contains(refused([&] { c.all_gather_v(far, short_far, counts); }), "add up to 4"));
    EXPECT_TRUE(contains(refused([&] { c.broadcast(far, 2); }), "root 2"));
    EXPECT_TRUE(log.lines.empty());
    run_threads(1, [](World& world) {  // a communicator that nobody has extended
      at::Tensor lost = meta(2);
      EXPECT_TRUE(contains(error_of<ShapeError>([&] { world.communicator().all_reduce(lost); }), "Device::extend"));
    });
  });
}

TEST(Routed, ASplitCarriesBothPlacesAndTrafficIsTheSum) {
  run_routed([](Communicator& c, Log& log) {
    const auto tp = c.split("tp", 0, -c.rank());
    at::Tensor far = meta(2), cpu = at::ones({5}, at::kInt);
    tp->all_reduce(far);
    tp->all_reduce(cpu);
    EXPECT_EQ(cpu[4].item<int>(), 2);
    EXPECT_EQ(tp->rank(), 1 - c.rank());
    EXPECT_EQ(log.lines, std::vector<std::string>{"tp: all_reduce"});
    EXPECT_EQ(tp->traffic().bytes, 1020);
    EXPECT_EQ(tp->traffic().messages, 11);
  });
}

TEST(Routed, AFailedDeviceEndsHostCallsToo) {
  run_routed([](Communicator& c, Log& log) {
    log.failure = "NCCL says no";
    at::Tensor far = meta(2), cpu = at::ones({5}, at::kInt);
    for (const auto& call : std::vector<std::function<void()>>{[&] { c.all_reduce(far); }, [&] { c.all_reduce(cpu); },
                                                               [&] { c.barrier(); }, [&] { c.split("tp", 0, 0); },
                                                               [&] { c.group_begin(), c.group_end(); }}) {
      EXPECT_TRUE(contains(error_of<CommError>(call), "NCCL says no"));
    }
  });
}

TEST(Routed, AnAbortReachesBothSides) {
  run_routed([](Communicator& c, Log& log) {
    c.abort("a bad row");
    EXPECT_EQ(log.lines, std::vector<std::string>{"dp: abort a bad row"});
    EXPECT_TRUE(contains(error_of<CommError>([&] { c.barrier(); }), "a bad row"));
  });
}

TEST(Mesh, EveryAxisCarriesTheDevicesTensors) {
  run_threads(4, [](World& world) {
    MetaDevice device;
    const Mesh mesh(world, {.dp = 2, .pp = 1, .cp = 1, .tp = 2}, &device);
    EXPECT_EQ(mesh.at().tp, world.rank() % 2);
    std::vector<std::string> expected;
    for (Communicator* axis : {&mesh.world(), &mesh.dp(), &mesh.tp(), &mesh.cp(), &mesh.cp_gradient(), &mesh.pp(),
                               &mesh.pp_gradient(), &mesh.dp_cp()}) {
      at::Tensor far = meta(2), cpu = at::ones({1}, at::kInt);
      axis->all_reduce(far);
      axis->all_reduce(cpu);
      EXPECT_EQ(cpu.item<int>(), axis->size());
      expected.push_back(axis->axis() + ": all_reduce");
    }
    EXPECT_EQ(device.log.lines, expected);
    EXPECT_THROW(Mesh(world, {.dp = 3}, &device), ConfigError);
    const auto cpu_device = make_cpu_device();
    EXPECT_EQ(&Mesh(world, {.dp = 4}, cpu_device.get()).world(), &world.communicator());
  });
}

}  // namespace
}  // namespace fpdist::comm
