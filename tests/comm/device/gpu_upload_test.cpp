// Uploads to a GPU, beside what its step runs. Skipped, loudly, where there is none. Copies only: nothing here depends
// on a kernel.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::comm {
namespace {

/// body(device) on a GPU.
template <typename Body>
void on_gpu(const Body& body) {
  std::string why_not;
  run_threads(1, [&](World& world) {
    NullLog log;
    std::unique_ptr<Device> device;
    try {
      device = open_device("cuda", world, {}, log);
    } catch (const ConfigError& error) {
      why_not = error.what();
      return;
    }
    body(*device);
  });
  if (!why_not.empty()) GTEST_SKIP() << "NOT RUN: " << why_not;
}

/// Keeps the device busy: `times` copies of 64 MiB on the current stream.
void queue_copies(const at::Tensor& from, at::Tensor& into, int times) {
  for (int i = 0; i < times; ++i) into.copy_(from);
}

std::vector<at::Tensor> some_tensors(int64_t seed) {
  return {at::arange(seed, seed + 1000, at::kLong), at::empty({0}, at::kLong), at::arange(seed, seed + 77, at::kInt),
          at::arange(seed, seed + 3, at::kDouble)};
}

std::vector<at::Tensor> upload_all(Device& device, std::vector<at::Tensor> tensors) {
  std::vector<at::Tensor*> all;
  for (at::Tensor& tensor : tensors) all.push_back(&tensor);
  device.upload_all(all);
  return tensors;
}

TEST(GpuUpload, ManySmallTensorsArriveAsOneBlock) {
  on_gpu([](Device& device) {
    const auto host = some_tensors(5), there = upload_all(device, host);
    for (size_t i = 0; i < host.size(); ++i) {
      EXPECT_TRUE(there[i].is_cuda() && there[i].is_alias_of(there[0]));
      EXPECT_TRUE(at::equal(device.download(there[i]), host[i]));
    }
  });
}

TEST(GpuUpload, WhatIsMadeAheadIsThereWhenItsUserReads) {
  on_gpu([](Device& device) {
    std::vector<at::Tensor> host;  // no two alike: memory that is used again holds something else
    for (int times = 0; times < 4; ++times) host.push_back(at::full({int64_t{16} << 20}, times, at::kFloat));
    at::Tensor there;
    std::unique_ptr<Ahead> ahead;
    const auto make = [&] {
      for (const at::Tensor& tensor : host) there = device.upload(tensor);
    };
    std::thread([&] { ahead = device.run_ahead(make); }).join();
    ahead->wait();
    const at::Tensor read = there.slice(0, -1000).clone();  // what arrives last
    ahead.reset();
    EXPECT_TRUE(at::equal(device.download(read), host.back().slice(0, -1000)));
  });
}

/// Every round's tensors are let go while the device still reads them, and the next round writes into the same pool.
TEST(GpuUpload, MemoryThatWasMadeAheadIsNotReusedBeforeItsLastReader) {
  on_gpu([](Device& device) {
    at::Tensor big = device.upload(at::ones({16 << 20}, at::kFloat)), other = at::empty_like(big);
    std::vector<std::pair<at::Tensor, at::Tensor>> results;  // read on the device, and what it should be
    for (int64_t round = 0; round < 50; ++round) {
      const std::vector<at::Tensor> host = some_tensors(1000 * round);
      std::vector<at::Tensor> there;
      std::unique_ptr<Ahead> ahead;
      std::thread([&] { ahead = device.run_ahead([&] { there = upload_all(device, host); }); }).join();
      queue_copies(big, other, 4);
      ahead->wait();
      for (size_t i = 0; i < host.size(); ++i) results.emplace_back(there[i].clone(), host[i]);
      ahead.reset();
    }
    for (const auto& [result, wanted] : results) EXPECT_TRUE(at::equal(device.download(result), wanted));
  });
}

TEST(GpuUpload, WhatIsMadeAheadArrivesWhileTheStepRuns) {
  on_gpu([](Device& device) {
    if (device.description().find("emulated") != std::string::npos)
      GTEST_SKIP() << "the emulated GPU copies on the host that asks: nothing goes on beside";
    at::Tensor big = device.upload(at::ones({16 << 20}, at::kFloat)), other = at::empty_like(big);
    std::vector<at::Tensor> there;
    const auto make = [&] { there = upload_all(device, some_tensors(7)); };
    std::thread([&] { device.run_ahead(make); }).join();  // pinned memory is there afterwards
    device.synchronize();
    device.mark();
    queue_copies(big, other, 100);
    std::unique_ptr<Ahead> ahead;
    std::thread([&] {
      ahead = device.run_ahead([&] {
        make();
        device.mark();
      });
    }).join();
    device.mark();
    ahead->wait();
    const std::vector<double> seconds = device.seconds();
    EXPECT_LT(seconds[1], 0.5 * seconds[2]) << "the copies came behind the step's work";
    EXPECT_TRUE(at::equal(device.download(there[0]), some_tensors(7)[0]));
    ahead.reset();
  });
}

}  // namespace
}  // namespace fpdist::comm
