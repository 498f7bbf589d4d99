// A bfloat16 step on the CPU converts no tensor of activations, weights or gradients as a whole: what has to be added
// up in float32 is widened element by element where it is read.

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/random/random_groups.hpp"

namespace fpdist::trainer {
namespace {

/// Copies from one dtype of floats to another, of tensors with rows, as "[4, 8] BFloat16 -> Float".
class Conversions {
 public:
  Conversions() {
    current = this;
    handle_ =
        at::addGlobalCallback(at::RecordFunctionCallback(begin).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  }
  ~Conversions() { at::removeCallback(handle_); }
  const std::map<std::string, int>& seen() const { return seen_; }

 private:
  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    if (std::string_view(function.name()) == "aten::copy_") current->see(function.inputs()[0], function.inputs()[1]);
    return nullptr;
  }
  void see(const c10::IValue& to, const c10::IValue& from) {
    const at::Tensor &a = to.toTensor(), &b = from.toTensor();
    if (a.scalar_type() == b.scalar_type() || !a.is_floating_point() || !b.is_floating_point() || a.dim() < 2) return;
    const std::lock_guard lock(mutex_);
    ++seen_[text(a.sizes(), " ", b.scalar_type(), " -> ", a.scalar_type())];
  }
  static inline Conversions* current = nullptr;
  at::CallbackHandle handle_;
  std::mutex mutex_;
  std::map<std::string, int> seen_;
};

TEST(Conversions, OfWholeTensorsThereAreNoneInABfloat16Step) {
  for (const Method method : {Method::kSft, Method::kDpo, Method::kGrpo}) {
    SCOPED_TRACE(name_of(method));
    Config config;
    config.method = method;
    config.model.preset = "tiny";
    config.model.dtype = DType::kBFloat16;
    config.data.path = {"none"};
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      const auto groups = test::random_groups(method, 4, 3);
      trainer.step(groups);
      const Conversions conversions;
      trainer.step(groups);
      for (const auto& [what, times] : conversions.seen()) ADD_FAILURE() << what << ", " << times << " times";
    });
  }
}

TEST(Conversions, AreSeenWhereThereAreSome) {
  const Conversions conversions;
  (void)at::ones({4, 8}, at::kBFloat16).to(at::kFloat);
  EXPECT_EQ(conversions.seen(), (std::map<std::string, int>{{"[4, 8] BFloat16 -> Float", 1}}));
}

}  // namespace
}  // namespace fpdist::trainer
