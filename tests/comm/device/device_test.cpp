// Which device a rank takes: every answer that a machine can give, and this machine's own.
#include "fpdist/comm/device.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "src/comm/device/device_choice.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::comm {
namespace {

using test::error_of, test::contains;

/// Eight GPUs under a driver that is new enough, and a rank that wants one.
DeviceFacts good() {
  DeviceFacts facts{.local_rank = 5, .local_size = 8};
  facts.probe = {.error = 0, .error_text = "no error", .gpus = 8, .driver_version = 13000, .runtime_version = 13000};
  return facts;
}

struct Missing {
  const char* what;
  std::function<void(DeviceFacts&)> take;
  std::vector<std::string> words;
};

const std::vector<Missing> kMissing = {
    {"driver",
     [](DeviceFacts& f) { f.driver_error = "libcuda.so.1: cannot open"; },
     {"no NVIDIA driver", "libcuda.so.1: cannot open", "install the driver"}},
    {"library",
     [](DeviceFacts& f) { f.has_library = false, f.library_error = "no lib/libfpdist_cuda.so"; },
     {"is not built", "no lib/libfpdist_cuda.so", "CUDA 13 toolkit"}},
    {"dependency",
     [](DeviceFacts& f) { f.library_error = "libcusparseLt.so.0: cannot open"; },
     {"cannot be opened", "libcusparseLt.so.0", "launch/setup.sh", "LD_LIBRARY_PATH", "nvidia-cusparselt-cu13"}},
    {"entry", [](DeviceFacts& f) { f.is_same_build = false; }, {"another build", kCudaEntry}},
    {"new driver",
     [](DeviceFacts& f) { f.probe.error = 35, f.probe.gpus = 0, f.probe.driver_version = 12040; },
     {"up to 12.4", "needs 13.0", "update the driver"}},
    {"any CUDA in the driver",
     [](DeviceFacts& f) { f.probe.error = 35, f.probe.driver_version = 0; },
     {"knows no CUDA", "needs 13.0"}},
    {"GPU", [](DeviceFacts& f) { f.probe.error = 100, f.probe.gpus = 0; }, {"sees no GPU", "CUDA_VISIBLE_DEVICES"}},
    {"GPU without an error", [](DeviceFacts& f) { f.probe.gpus = 0; }, {"sees no GPU"}},
    {"health",
     [](DeviceFacts& f) { f.probe.error = 802, f.probe.error_text = "system not yet initialized"; },
     {"error 802", "system not yet initialized", "nvidia-smi"}},
    {"GPUs", [](DeviceFacts& f) { f.probe.gpus = 4; }, {"4 GPUs for 8 ranks", "share_gpus"}},
    {"all GPUs but one", [](DeviceFacts& f) { f.probe.gpus = 1; }, {"1 GPU for 8 ranks"}},
};

TEST(DeviceChoice, WithAutoAllRanksHaveGpusOrNoneHas) {
  for (const int without : {-1, 0, 2}) {
    run_threads(3, [&](World& world) {
      const ChosenDevice own{.is_gpu = world.rank() != without,
                             .gpu = world.rank() == without ? 0 : world.rank(),
                             .why_no_gpu = "its reason"};
      const ChosenDevice choice = choose_together(own, world.communicator());
      EXPECT_EQ(choice.is_gpu, without < 0);
      EXPECT_EQ(choice.gpu, without < 0 ? world.rank() : 0);
      const char* const reason = without < 0 || world.rank() == without ? "its reason" : "another rank has no GPU";
      EXPECT_TRUE(contains(choice.why_no_gpu, reason)) << choice.why_no_gpu;
    });
  }
}

TEST(DeviceChoice, ARankTakesTheGpuOfItsLocalRank) {
  for (const char* name : {"cuda", "auto"}) {
    const ChosenDevice choice = choose_device(name, good());
    EXPECT_TRUE(choice.is_gpu);
    EXPECT_EQ(choice.gpu, 5);
  }
}

TEST(DeviceChoice, WhatIsMissingIsNamedWithItsCure) {
  for (const Missing& missing : kMissing) {
    SCOPED_TRACE(missing.what);
    DeviceFacts facts = good();
    missing.take(facts);
    const std::string error = error_of<ConfigError>([&] { choose_device("cuda", facts); });
    EXPECT_TRUE(contains(error, "device cuda: ") && contains(error, "device cpu")) << error;
    for (const std::string& word : missing.words) EXPECT_TRUE(contains(error, word)) << word << " is not in: " << error;
    const ChosenDevice fallback = choose_device("auto", facts);
    EXPECT_FALSE(fallback.is_gpu);
    EXPECT_TRUE(contains(fallback.why_no_gpu, missing.words.front())) << fallback.why_no_gpu;
    EXPECT_FALSE(contains(fallback.why_no_gpu, "\n")) << "one line";
  }
}

TEST(DeviceChoice, SharedGpusAreDealtRound) {
  DeviceFacts facts = good();
  facts.share_gpus = true;
  facts.probe.gpus = 2;
  EXPECT_EQ(choose_device("cuda", facts).gpu, 1);
  facts.probe.gpus = 1;
  EXPECT_EQ(choose_device("cuda", facts).gpu, 0);
  facts.probe = {.error = 100, .gpus = 0};
  EXPECT_THROW(choose_device("cuda", facts), ConfigError);
}

TEST(DeviceChoice, OtherNamesAreRefused) {
  EXPECT_TRUE(choose_without_facts("cpu").has_value());
  EXPECT_FALSE(choose_without_facts("auto").has_value());
  EXPECT_TRUE(contains(error_of<ConfigError>([] { choose_without_facts("tpu"); }), "cpu, cuda and auto"));
}

TEST(OpenDevice, AutoSaysInOneLineWhyItIsTheCpu) {
  run_threads(1, [](World& world) {
    test::HeardLog log;
    const auto device = open_device("auto", world, {}, log);
    if (!device->where().is_cpu()) GTEST_SKIP() << "this machine has a GPU: " << device->description();
    ASSERT_EQ(log.lines().size(), 1u);
    EXPECT_TRUE(contains(log.lines()[0].second, "device auto: running on the CPU: ")) << log.lines()[0].second;
    const std::string error = error_of<ConfigError>([&] { open_device("cuda", world, {}, log); });
    EXPECT_TRUE(contains(log.lines()[0].second, error.substr(std::string("device cuda: ").size(), 20))) << error;
    EXPECT_EQ(log.lines().size(), 1u);
  });
}

TEST(OpenDevice, WrongNamesAreRefusedBeforeAnythingIsOpened) {
  run_threads(1, [](World& world) {
    test::HeardLog log;
    EXPECT_EQ(open_device("cpu", world, {}, log)->description(), "cpu");
    EXPECT_THROW(open_device("tpu", world, {}, log), ConfigError);
    EXPECT_TRUE(
        contains(error_of<ConfigError>([&] { open_device("cpu", world, {.transport = "smoke"}, log); }), "smoke"));
    EXPECT_TRUE(log.lines().empty());
  });
}

/// The library itself, with or without a GPU: it opens, and CUDA's answer leads to a decision.
TEST(OpenDevice, TheLibraryOpensHereAndAnswers) {
  DeviceFacts facts;
  const CudaLibrary* library = open_cuda_library(facts);
  if (!facts.has_library) GTEST_SKIP() << "a CPU-only build: " << facts.library_error;
  ASSERT_NE(library, nullptr) << facts.library_error;
  EXPECT_TRUE(facts.is_same_build);
  EXPECT_GE(facts.probe.runtime_version, 13000);
  if (facts.probe.error == 0 && facts.probe.gpus > 0)
    GTEST_SKIP() << "this machine has " << facts.probe.gpus << " GPUs";
  EXPECT_TRUE(facts.probe.error == 35 || facts.probe.error == 100)
      << facts.probe.error << ", " << facts.probe.error_text;
  EXPECT_FALSE(facts.probe.error_text.empty());
  EXPECT_FALSE(choose_device("auto", facts).is_gpu);
}

/// torch decides once in a process whether it has CUDA, and a backward on the CPU makes it decide.
TEST(OpenDevice, BehindABackwardTheLibrarySaysThatItComesTooLate) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process of its own, which runs this test alone, from its begin
  const auto open_behind_a_backward = [] {
    at::Tensor x = at::ones({2}).requires_grad_();
    x.sum().backward();
    DeviceFacts facts;
    const bool is_open = open_cuda_library(facts) != nullptr;
    std::fputs(facts.library_error.c_str(), stderr);
    std::_Exit(is_open ? 0 : 3);
  };
  EXPECT_EXIT(open_behind_a_backward(), testing::ExitedWithCode(3),
              "open the device .* before the first backward|no .*libfpdist_cuda.so");
}

TEST(CpuDevice, TimesItsMarksAndCarriesTensorsAsTheyAre) {
  const auto device = make_cpu_device();
  device->mark();
  device->mark();
  const std::vector<double> seconds = device->seconds();
  ASSERT_EQ(seconds.size(), 2u);
  EXPECT_EQ(seconds[0], 0.0);
  EXPECT_GE(seconds[1], 0.0);
  EXPECT_TRUE(device->seconds().empty());
  const at::Tensor tensor = at::ones({3});
  EXPECT_TRUE(device->upload(tensor).is_same(tensor));
}

}  // namespace
}  // namespace fpdist::comm
