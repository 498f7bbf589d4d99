// A step on a device, proved without one: torch's Meta device has no elements to wait for.

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <set>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/device/meta_aten.hpp"
#include "tests/support/device/meta_device.hpp"
#include "tests/support/random/random_groups.hpp"

namespace fpdist::trainer {
namespace {

thread_local std::set<std::string> mixed;  // operators that were given host and device tensors together

/// Row numbers stay on the host for attention; copies go from one side to the other; a 0-dim host tensor is a number.
std::unique_ptr<at::ObserverContext> note_mixed_devices(const at::RecordFunction& call) {
  const std::string name = call.name();
  if (name.starts_with("fpdist::tree_attention") || name == "aten::copy_" || name == "aten::to" ||
      name == "aten::_to_copy")
    return nullptr;
  bool host = false, device = false;
  const auto look = [&](const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.dim() == 0) return;
    (tensor.is_cpu() ? host : device) = true;
  };
  for (const c10::IValue& input : call.inputs()) {
    if (input.isTensor()) look(input.toTensor());
    if (input.isList())
      for (const c10::IValue& element : input.toListRef())
        if (element.isTensor()) look(element.toTensor());
  }
  if (host && device) mixed.insert(name);
  return nullptr;
}

void run_steps(Method method, const MeshShape& mesh, bool recompute, int slices = 1) {
  SCOPED_TRACE(text(name_of(method), " on ", to_string(mesh), recompute ? ", recomputed" : ""));
  comm::run_threads(static_cast<int>(mesh.size()), [&](comm::World& world) {
    at::addThreadLocalCallback(
        at::RecordFunctionCallback(note_mixed_devices).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
    mixed.clear();
    Config config;
    config.method = method;
    config.model.preset = "tiny";
    config.model.dtype = DType::kBFloat16;
    config.model.gradient_checkpointing = recompute;
    config.data.path = {"none"};
    static_cast<MeshShape&>(config.parallel) = mesh;
    config.pack.max_tokens = 64;
    config.pack.slices = slices;
    if (method == Method::kGrpo) config.loss.beta = 0.1;
    NullLog log;
    int downloads = 0;
    Trainer trainer(world, config, log, std::make_unique<test::MetaDevice>(&downloads));
    const std::vector<data::Group> groups = test::random_groups(method, 4, 7);
    for (int step = 1; step <= 2; ++step) {
      downloads = 0;
      trainer.step(groups);
      EXPECT_EQ(downloads, 1) << "waits for the device in step " << step;
    }
    EXPECT_TRUE(mixed.empty()) << *mixed.begin() << " was given tensors of the host and of the device";
    at::clearThreadLocalCallbacks();
  });
}

TEST(Device, AStepWaitsForItOnceAndNeverMixesItWithTheHost) {
  for (const Method method : {Method::kSft, Method::kDpo, Method::kReward, Method::kGrpo}) {
    run_steps(method, {.dp = 1}, false);
    run_steps(method, {.dp = 2}, true);
    run_steps(method, {.dp = 1, .tp = 2}, false);
    run_steps(method, {.dp = 1, .cp = 2}, false);
    run_steps(method, {.dp = 1, .pp = 2}, false);
    run_steps(method, {.dp = 1, .pp = 2, .cp = 2}, true, 2);
  }
}

}  // namespace
}  // namespace fpdist::trainer
