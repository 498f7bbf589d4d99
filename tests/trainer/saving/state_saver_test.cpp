// A state is copied beside the steps that follow: what is saved is what it was.

#include "src/trainer/saving/state_saver.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <thread>

#include "src/core/clock.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

/// A CPU on which threads beside the rank's own take their time.
class SlowBeside final : public comm::Device {
 public:
  explicit SlowBeside(std::chrono::milliseconds pause) : pause_(pause) {}
  at::Device where() const override { return cpu_->where(); }
  std::string description() const override { return cpu_->description(); }
  std::unique_ptr<comm::Communicator> extend(std::unique_ptr<comm::Communicator> host) override { return host; }
  at::Tensor upload(const at::Tensor& host) override { return host; }
  void upload_all(std::span<at::Tensor* const>) override {}
  std::unique_ptr<comm::Ahead> run_ahead(const std::function<void()>& make) override {
    if (std::this_thread::get_id() != own_) std::this_thread::sleep_for(pause_);
    return cpu_->run_ahead(make);
  }
  at::Tensor download(const at::Tensor& tensor) override { return tensor; }
  void synchronize() override {}
  comm::MemoryUse memory() const override { return {}; }
  void reset_peak_memory() override {}
  size_t mark() override { return cpu_->mark(); }
  std::vector<double> seconds() override { return cpu_->seconds(); }
  void begin_range(const std::string&) override {}
  void end_range() override {}

 private:
  std::unique_ptr<comm::Device> cpu_ = comm::make_cpu_device();
  std::chrono::milliseconds pause_;
  std::thread::id own_ = std::this_thread::get_id();
};

using Whole = std::map<std::string, at::Tensor>;

class SavedBeside : public ::testing::TestWithParam<DType> {
 protected:
  SavedBeside() { at::set_num_threads(1); }
  Config config() const {
    Config config = test::tiny_config(Method::kDpo);
    config.model.dtype = GetParam();
    config.train.max_steps = 9, config.data.path = {"unused"};
    return config;
  }
  /// `act` on two ranks.
  void with_trainers(const std::function<void(Trainer&)>& act) const {
    comm::run_threads(2, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config(), log, std::make_unique<SlowBeside>(std::chrono::milliseconds(500)));
      act(trainer);
    });
  }
  static void step(Trainer& trainer) {
    trainer.step(test::random_groups(Method::kDpo, 4, static_cast<uint64_t>(trainer.steps_done())));
  }
  /// Of the weights and of all that the next step makes of them.
  static void expect_same(const Whole& got, const Whole& wanted, const char* what) {
    EXPECT_EQ(got.size(), wanted.size());
    for (const auto& [name, tensor] : wanted) EXPECT_TRUE(at::equal(got.at(name), tensor)) << what << ": " << name;
  }
  const test::Scratch scratch_;
};

TEST_P(SavedBeside, TheNextUpdateWaitsForTheCopyAndNothingElseDoes) {
  with_trainers([&](Trainer& trainer) {
    step(trainer);
    const Whole saved = trainer.gather_weights();
    const auto begin = Clock::now();
    trainer.save_state(scratch_ / "checkpoint-1", {.beside_steps = true});
    EXPECT_LT(seconds_since(begin), 0.4) << "it waited for the copy";
    step(trainer);
    EXPECT_GE(seconds_since(begin), 0.5) << "the update did not wait";
    const Whole after = trainer.gather_weights();
    trainer.finish_save();
    EXPECT_GT(trainer.save_seconds().waited, 0.1);
    trainer.load_state(scratch_ / "checkpoint-1");
    expect_same(trainer.gather_weights(), saved, "saved");
    step(trainer);
    expect_same(trainer.gather_weights(), after, "a step further");
  });
}

TEST_P(SavedBeside, LoadingAnotherStateWaitsToo) {
  with_trainers([&](Trainer& trainer) {
    trainer.save_state(scratch_ / "checkpoint-0");
    step(trainer);
    const Whole saved = trainer.gather_weights();
    trainer.save_state(scratch_ / "checkpoint-1", {.beside_steps = true});
    trainer.load_state(scratch_ / "checkpoint-0");
    trainer.finish_save();
    trainer.load_state(scratch_ / "checkpoint-1");
    expect_same(trainer.gather_weights(), saved, "saved");
  });
}

TEST_P(SavedBeside, WhoWritesTheWeightsThemselvesWaitsToo) {
  with_trainers([&](Trainer& trainer) {
    const Whole saved = trainer.gather_weights();
    trainer.save_state(scratch_ / "checkpoint-0", {.beside_steps = true});
    trainer.parameters().value().zero_();
    trainer.finish_save();
    trainer.load_state(scratch_ / "checkpoint-0");
    expect_same(trainer.gather_weights(), saved, "saved");
  });
}

INSTANTIATE_TEST_SUITE_P(Dtypes, SavedBeside, ::testing::Values(DType::kFloat32, DType::kBFloat16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace fpdist::trainer
