#include "src/ops/held_queue.hpp"

#include <ATen/core/ivalue.h>

namespace fpdist::ops {
namespace {

/// What lets a node of the graph hold a queue.
struct HeldQueue : torch::CustomClassHolder {
  explicit HeldQueue(QueuePtr queue) : queue(std::move(queue)) {}
  QueuePtr queue;
};

}  // namespace

void save_queue(torch::autograd::AutogradContext& context, const QueuePtr& queue) {
  if (queue) context.saved_data["queue"] = at::IValue::make_capsule(c10::make_intrusive<HeldQueue>(queue));
}

WeightGradientQueue* open_queue(const torch::autograd::AutogradContext& context) {
  const auto held = context.saved_data.find("queue");
  if (held == context.saved_data.end()) return nullptr;
  // The node outlives its backward, and holds the queue meanwhile.
  auto* queue = static_cast<HeldQueue*>(held->second.toCapsule().get())->queue.get();
  return queue->is_open() ? queue : nullptr;
}

}  // namespace fpdist::ops
