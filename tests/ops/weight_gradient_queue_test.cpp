#include "fpdist/ops/weight_gradient_queue.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"

namespace fpdist::ops {
namespace {

/// Two linears with biases, float32 so that the order of additions shows in the bits.
struct Net {
  Net() {
    at::manual_seed(3);
    for (Parameter* p : {&a, &b}) *p = make(at::randn({6, 6}));
    for (Parameter* p : {&a_bias, &b_bias}) *p = make(at::randn({6}));
  }
  static Parameter make(const at::Tensor& value) {
    Parameter parameter;
    parameter.value = value.clone().requires_grad_(true);
    parameter.main_grad = at::zeros_like(value);
    return parameter;
  }
  std::vector<Parameter*> parameters() { return {&a, &b, &a_bias, &b_bias}; }
  void defer(const c10::intrusive_ptr<WeightGradientQueue>& queue) {
    for (Parameter* p : parameters()) p->queue = queue;
  }
  at::Tensor forward(const at::Tensor& x) const { return linear(at::silu(linear(x, a, &a_bias)), b, &b_bias); }
  Parameter a, b, a_bias, b_bias;
};

std::vector<at::Tensor> packs() {
  at::manual_seed(4);
  return {at::randn({9, 6}), at::randn({1, 6}), at::randn({14, 6})};
}

void expect_equal_gradients(Net& got, Net& want) {
  for (size_t i = 0; i < 4; ++i)
    EXPECT_TRUE(at::equal(got.parameters()[i]->main_grad, want.parameters()[i]->main_grad));
}

TEST(WeightGradientQueue, DeferredGradientsEqualImmediateOnesBitForBit) {
  Net now, later;
  const auto queue = c10::make_intrusive<WeightGradientQueue>();
  later.defer(queue);
  const auto all = packs();
  for (size_t i = 0; i < all.size(); ++i) {
    const at::Tensor x = all[i].clone().requires_grad_(true), x_later = all[i].clone().requires_grad_(true);
    now.forward(x).square().sum().backward();
    queue->open(static_cast<int64_t>(i));
    later.forward(x_later).square().sum().backward();
    queue->close();
    EXPECT_TRUE(at::equal(x.grad(), x_later.grad()));
    EXPECT_EQ(queue->pending(), 2U);
    queue->run(static_cast<int64_t>(i));
    EXPECT_EQ(queue->pending(), 0U);
    expect_equal_gradients(later, now);
  }
}

TEST(WeightGradientQueue, ACameFirstKeyMayRunLastAndOnlyItsOwnWorkRuns) {
  Net now, later;
  const auto queue = c10::make_intrusive<WeightGradientQueue>();
  later.defer(queue);
  const auto all = packs();
  const at::Tensor first = later.forward(all[0]), second = later.forward(all[2]);
  queue->open(7);
  first.sum().backward();
  queue->open(8);
  second.square().sum().backward();
  queue->open(7);  // one more pack for the first key
  later.forward(all[1]).sum().backward();
  queue->close();
  EXPECT_EQ(queue->pending(), 6U);
  queue->run(8);
  EXPECT_EQ(queue->pending(), 4U);
  now.forward(all[2]).square().sum().backward();
  expect_equal_gradients(later, now);
  queue->run(7);
  now.forward(all[0]).sum().backward();
  now.forward(all[1]).sum().backward();
  expect_equal_gradients(later, now);
}

TEST(WeightGradientQueue, AClosedQueueDefersNothingAndAFrozenWeightNeverDoes) {
  Net now, later;
  const auto queue = c10::make_intrusive<WeightGradientQueue>();
  later.defer(queue);
  later.forward(packs()[0]).sum().backward();
  now.forward(packs()[0]).sum().backward();
  EXPECT_EQ(queue->pending(), 0U);
  expect_equal_gradients(later, now);
  for (Parameter* p : later.parameters()) p->main_grad.reset();
  queue->open(0);
  later.forward(packs()[0].requires_grad_(true)).sum().backward();
  EXPECT_EQ(queue->pending(), 0U);
}

TEST(WeightGradientQueue, RunAndDiscardReleaseTheTensorsAndTheGraph) {
  for (const bool discards : {false, true}) {
    Net net;
    const auto queue = c10::make_intrusive<WeightGradientQueue>();
    net.defer(queue);
    const at::Tensor x = at::randn({5, 6});
    const auto holders = x.storage().use_count();
    queue->open(1);
    net.forward(x).sum().backward();
    EXPECT_GT(x.storage().use_count(), holders);
    discards ? queue->discard(1) : queue->run(1);
    EXPECT_EQ(x.storage().use_count(), holders);
    EXPECT_EQ(queue->pending(), 0U);
    EXPECT_EQ(queue.use_count(), 5U) << "beside the four parameters nobody holds the queue";
  }
}

TEST(WeightGradientQueue, WaitingWorkHoldsItsRowsButNotTheGraph) {
  Net net;
  const auto queue = c10::make_intrusive<WeightGradientQueue>();
  net.defer(queue);
  const at::Tensor below = at::randn({5, 6}).requires_grad_(true);
  const auto holders = below.use_count();
  queue->open(1);
  net.forward(below.exp()).sum().backward();
  EXPECT_EQ(below.use_count(), holders) << "the graph under the first linear is gone";
  EXPECT_EQ(queue->pending(), 2U);
}

TEST(WeightGradientQueue, AnUnknownKeyIsNoErrorAndWorkForAClosedQueueIs) {
  WeightGradientQueue queue;
  queue.run(5);
  queue.discard(5);
  EXPECT_THROW(queue.push([] {}), ShapeError);
}

TEST(WeightGradientQueue, WorkThatThrowsIsForgotten) {
  WeightGradientQueue queue;
  queue.open(1);
  queue.push([] { throw ShapeError("no"); });
  EXPECT_THROW(queue.run(1), ShapeError);
  EXPECT_EQ(queue.pending(), 0U);
}

}  // namespace
}  // namespace fpdist::ops
