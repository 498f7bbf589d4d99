// Two ranks on GPUs through NCCL: what a host may do without waiting for its peer, and what it may not. Under mpirun;
// on one GPU or two. Where the GPU is emulated it says what no real one tells: contexts, registered memory.
#include <ATen/ATen.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/core/log.hpp"
#include "tests/emulation/cuda/contexts.hpp"
#include "tests/emulation/nccl/nccl_counts.hpp"
#include "tests/support/device/why_no_gpu.hpp"
#include "tests/support/ranks/mpi_main.hpp"

namespace fpdist::comm {
namespace {

/// Empty on a real GPU.
template <typename Function>
Function* emulated(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

class GpuRanks : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why_not = test::why_no_gpu(world);
    if (!why_not.empty()) GTEST_SKIP() << "NOT RUN: " << why_not;
    NullLog log;
    device = open_device("cuda", world, {.share_gpus = true}, log);
  }
  at::Tensor ones(int64_t size) const {
    return at::ones({size}, at::TensorOptions(at::kFloat).device(device->where()));
  }
  World& world = test::test_world();
  std::unique_ptr<Device> device;
};

TEST_F(GpuRanks, TouchNoDeviceButTheirOwn) {
  const Mesh mesh(world, {.dp = 2}, device.get());
  at::Tensor sum = ones(4);
  mesh.dp().all_reduce(sum);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the watchdog has looked by then
  EXPECT_EQ(device->download(sum)[0].item<float>(), 2);
  if (auto* const contexts = emulated<decltype(fpdist_emulated_contexts)>("fpdist_emulated_contexts")) {
    EXPECT_EQ(contexts(), uint64_t{1} << device->where().index());
  }
}

TEST_F(GpuRanks, BothMaySendBeforeTheyReceive) {
  const Mesh mesh(world, {.dp = 1, .pp = 2}, device.get());
  for (Communicator* const axis : {&mesh.pp(), &mesh.pp_gradient()}) {
    const at::Tensor out = ones(1000) * (world.rank() + 1);
    at::Tensor in = ones(1000);
    axis->group_begin();
    axis->send(out, 1 - world.rank());
    const auto sent = axis->group_start();
    axis->group_begin();
    axis->receive(in, 1 - world.rank());
    axis->group_end();
    sent->wait();
    EXPECT_EQ(device->download(in)[999].item<float>(), 2 - world.rank());
  }
}

TEST_F(GpuRanks, AHostDoesNotWaitForItsPeersInAFirstExchangeOfKeys) {
  const Mesh mesh(world, {.dp = 1, .cp = 2}, device.get());
  for (Communicator* const axis : {&mesh.cp(), &mesh.cp_gradient()}) {
    at::Tensor rows = ones(1000) * (world.rank() + 1);
    if (world.rank() == 1) world.communicator().barrier();
    axis->group_begin();
    world.rank() == 0 ? axis->send(rows, 1) : axis->receive(rows, 0);
    const auto work = axis->group_start();
    if (world.rank() == 0) world.communicator().barrier();  // the other has not begun
    work->wait();
    EXPECT_EQ(device->download(rows)[999].item<float>(), 1);
  }
}

TEST_F(GpuRanks, WhatTravelsBesideProductsTakesFewOfTheirProcessors) {
  auto* const blocks = emulated<decltype(fpdist_emulated_max_blocks)>("fpdist_emulated_max_blocks");
  if (blocks == nullptr) GTEST_SKIP() << "SKIPPED: a real NCCL does not say";
  const auto blocks_of = [&](const std::vector<std::string>& axes) {
    std::vector<int> all;
    for (const std::string& axis : axes) all.push_back(blocks(axis.c_str()));
    return all;
  };
  const int any = blocks("no such axis");
  {
    const Mesh pipeline(world, {.dp = 1, .pp = 2}, device.get()), context(world, {.dp = 1, .cp = 2}, device.get());
    const Mesh tensor(world, {.dp = 1, .tp = 2}, device.get());
  }
  EXPECT_EQ(blocks_of({"pp", "pp_gradient", "cp", "cp_gradient", "dp_cp", "tp"}), (std::vector{4, 4, 8, 8, 16, any}));
  NullLog log;
  const auto asked = open_device("cuda", world, {.nccl_max_ctas = 3, .share_gpus = true}, log);
  const Mesh mesh(world, {.dp = 1, .pp = 2}, asked.get());
  EXPECT_EQ(blocks_of({"pp", "world"}), (std::vector{3, 3}));
}

TEST_F(GpuRanks, AnErrorEndsTheRankThoughItsQueueWaitsForAPeer) {
  try {
    const Mesh mesh(world, {.dp = 1, .cp = 2}, device.get());
    at::Tensor sum = ones(4), in = ones(4);
    mesh.cp().all_reduce(sum);  // both are connected
    mesh.world().group_begin();
    mesh.world().send(sum, 1 - world.rank());
    mesh.world().receive(in, 1 - world.rank());
    mesh.world().group_end();
    if (world.rank() == 1) return world.communicator().barrier();
    mesh.world().group_begin();
    mesh.world().receive(in, 1);  // which nobody sends
    mesh.world().group_end();
    const auto behind = mesh.cp().start_all_reduce(sum, ReduceOp::kSum);  // its communicator ends before the other
    throw std::runtime_error("rows.jsonl:3");
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "rows.jsonl:3");
  }
  world.communicator().barrier();
}

TEST_F(GpuRanks, RegisterNothingOnOneMachine) {
  const Mesh mesh(world, {.dp = 2}, device.get());
  at::Tensor sum = ones(1024);
  mesh.dp().keep_buffer(sum);
  mesh.dp().all_reduce(sum);
  EXPECT_EQ(device->download(sum)[0].item<float>(), 2);
  if (auto* const registered = emulated<decltype(fpdist_emulated_registered)>("fpdist_emulated_registered")) {
    EXPECT_EQ(registered(), 0);
  }
}

TEST_F(GpuRanks, ATensorsMemoryIsFreeOnceItsWorkWasWaitedFor) {
  const Mesh mesh(world, {.dp = 2}, device.get());
  at::Tensor first = ones(3 << 20);
  mesh.dp().all_reduce(first);
  device->synchronize();
  if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const auto work = mesh.dp().start_all_reduce(first, ReduceOp::kSum);
  work->wait();
  const void* const address = first.data_ptr();
  first.reset();
  const at::Tensor second = ones(3 << 20);  // behind the sum on this stream, which need not have happened
  EXPECT_EQ(second.data_ptr(), address);
  EXPECT_EQ(device->download(second).sum().item<float>(), 3 << 20);
  world.communicator().barrier();
}

}  // namespace
}  // namespace fpdist::comm
