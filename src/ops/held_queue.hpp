#pragma once
// ops: how a node of the graph keeps the queue on which its weight gradients may wait.

#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "fpdist/ops/weight_gradient_queue.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {

using QueuePtr = c10::intrusive_ptr<WeightGradientQueue>;

void save_queue(torch::autograd::AutogradContext& context, const QueuePtr& queue);

/// The queue that takes the node's work now, or null.
WeightGradientQueue* open_queue(const torch::autograd::AutogradContext& context);

/// main_grad.put(write), now or by the queue.
template <typename Write>
void put_or_push(WeightGradientQueue* queue, MainGrad main_grad, Write write) {
  if (queue == nullptr) return main_grad.put(write);
  queue->push([write = std::move(write), main_grad = std::move(main_grad)]() mutable { main_grad.put(write); });
}

}  // namespace fpdist::ops
