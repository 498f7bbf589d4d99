#include "src/trainer/step/out_of_memory.hpp"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <regex>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/device/meta_aten.hpp"
#include "tests/support/device/meta_device.hpp"
#include "tests/support/random/random_groups.hpp"

namespace fpdist::trainer {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(OutOfMemory, TorchsWordsSayHowMuchWasWanted) {
  EXPECT_EQ(requested_bytes("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"), 5 * kGiB / 2);
  EXPECT_EQ(requested_bytes("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0"), 20 << 20);
  EXPECT_EQ(requested_bytes("Tried to allocate 512 bytes"), 512);
  EXPECT_EQ(requested_bytes("something else"), 0);
}

TEST(OutOfMemory, ThePackSizeThatFitsLeavesRoomForTheStep) {
  // 40 GiB of weights, 80 GiB in all: a step that wanted 60 GiB more at 8192 rows fits at about 36/60 of them.
  const int64_t fits = fitting_max_tokens(8192, 40 * kGiB, 100 * kGiB, 80 * kGiB);
  EXPECT_EQ(fits % 64, 0);
  EXPECT_LE(static_cast<double>(fits) / 8192 * 60 + 40, 0.95 * 80);
  EXPECT_GT(static_cast<double>(fits + 64) / 8192 * 60 + 40, 0.95 * 80);
  EXPECT_EQ(fitting_max_tokens(8192, 79 * kGiB, 100 * kGiB, 80 * kGiB), 0) << "the weights alone fill the device";
  EXPECT_LT(fitting_max_tokens(8192, 0, kGiB, 80 * kGiB), 8192) << "what ran out of memory is never the advice";
  EXPECT_EQ(fitting_max_tokens(50, 40 * kGiB, 100 * kGiB, 80 * kGiB), 30) << "small packs are not rounded away";
}

/// A GPU of 80 GiB whose weights take `weights` and which is full.
class FullDevice final : public test::MetaDevice {
 public:
  explicit FullDevice(int64_t weights) : weights_(weights) {}
  comm::MemoryUse memory() const override {
    return {.bytes = asked_++ == 0 ? weights_ : 78 * kGiB, .peak = 0, .capacity = 80 * kGiB};
  }

 private:
  int64_t weights_;
  mutable int asked_ = 0;
};

/// The error of a step that runs out of memory with `weights` bytes in use before it.
std::string error_with(int64_t weights) {
  std::string what;
  comm::run_threads(1, [&](comm::World& world) {
    Config config;
    config.model.preset = "tiny";
    config.data.path = {"none"};
    NullLog log;
    Trainer trainer(world, config, log, std::make_unique<FullDevice>(weights));
    trainer.set_loss([](const loss::Edges& edges, const plan::StepTotals&) -> loss::LossOutput {
      if (edges.sample.numel() == 0) return {.loss = at::zeros({}), .metrics = {}};
      throw c10::OutOfMemoryError({__func__, __FILE__, __LINE__}, "CUDA out of memory. Tried to allocate 22.00 GiB.");
    });
    try {
      trainer.step(test::random_groups(Method::kSft, 2, 3));
      ADD_FAILURE() << "the step went through";
    } catch (const OutOfMemoryError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kOutOfMemory);
      what = error.what();
    }
  });
  return what;
}

TEST(OutOfMemory, TheErrorSaysWhatWasWantedAndWhatWouldFit) {
  const std::string fits = error_with(40 * kGiB);
  EXPECT_NE(fits.find("step 1, op 1 of "), std::string::npos) << fits;
  EXPECT_NE(fits.find("22 GiB wanted, 78 GiB of 80 GiB in use, 40 GiB of it before the step"), std::string::npos)
      << fits;
  // The weights leave 36 of the 60 GiB that the step wants; the largest pack had that many rows, not 8192.
  const std::regex advice(
      "pack.max_tokens: (\\d+) in place of 8192 would fit .the step's largest pack here has (\\d+) rows");
  std::smatch numbers;
  ASSERT_TRUE(std::regex_search(fits, numbers, advice)) << fits;
  EXPECT_EQ(std::stoll(numbers[1]), std::stoll(numbers[2]) * 36 / 60) << fits;
  const std::string never = error_with(77 * kGiB);
  EXPECT_NE(never.find("parallel.tp"), std::string::npos) << never;
}

}  // namespace
}  // namespace fpdist::trainer
