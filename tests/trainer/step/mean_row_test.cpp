// The mean of the head's rows, of which mean logits are made, is summed up once a step and not once a pack.

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string_view>

#include "fpdist/arch/model.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/random/random_groups.hpp"

namespace fpdist::trainer {
namespace {

/// Sums over the rows of a tensor of this shape while it lives.
class RowSums {
 public:
  RowSums(int64_t rows, int64_t columns) : rows_(rows), columns_(columns) {
    current = this;
    handle_ =
        at::addGlobalCallback(at::RecordFunctionCallback(begin).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  }
  ~RowSums() { at::removeCallback(handle_); }
  int seen() const { return seen_; }

 private:
  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    if (std::string_view(function.name()) == "aten::sum" && function.inputs()[0].isTensor())
      current->see(function.inputs()[0].toTensor());
    return nullptr;
  }
  void see(const at::Tensor& summed) {
    if (summed.dim() == 2 && summed.size(0) == rows_ && summed.size(1) == columns_) ++seen_;
  }
  static inline RowSums* current = nullptr;
  const int64_t rows_, columns_;
  at::CallbackHandle handle_;
  std::atomic<int> seen_ = 0;
};

TEST(MeanRow, OfTheHeadIsSummedUpOnceAStep) {
  Config config;
  config.method = Method::kDpo;
  config.model.preset = "tiny";
  config.data.path = {"none"};
  config.pack.max_tokens = 64;
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    const arch::ModelShape shape = arch::preset_config("tiny").shape();
    const auto groups = test::random_groups(Method::kDpo, 32, 3);
    const RowSums sums(shape.vocab, shape.hidden);
    const StepMetrics step = trainer.step(groups);
    EXPECT_GT(step.values.at("tokens_computed"), 3 * 64) << "four packs or more";
    EXPECT_EQ(sums.seen(), 1);
  });
}

}  // namespace
}  // namespace fpdist::trainer
