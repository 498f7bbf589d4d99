// The first gradient of a step writes over whatever its main grad holds, the others add, and a parameter without one
// reads as zeros: as main grads that were filled with zeros before, on the CPU to the bit. On the device that
// test_device.hpp says.
#include "src/ops/main_grad.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "fpdist/ops/functional.hpp"
#include "src/ops/partial_embedding.hpp"
#include "src/ops/partial_logprob.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::ops {
namespace {

using test::here, test::there;

/// One parameter of each kind of gradient, and one that gets none.
struct Net {
  explicit Net(at::ScalarType dtype) {
    at::manual_seed(7);
    for (const at::IntArrayRef sizes :
         std::vector<std::vector<int64_t>>{{8, 16}, {8}, {16}, {24, 16}, {40, 16}, {5, 5}}) {
      all.push_back(std::make_shared<Parameter>());
      all.back()->name = std::to_string(all.size());
      all.back()->value = there(at::randn(sizes).to(dtype)).requires_grad_(true);
      all.back()->main_grad = there(at::zeros(sizes));
    }
  }
  const Parameter& weight() const { return *all[0]; }
  const Parameter& bias() const { return *all[1]; }
  const Parameter& norm() const { return *all[2]; }
  const Parameter& table() const { return *all[3]; }
  const Parameter& head() const { return *all[4]; }

  std::vector<ParameterPtr> all;
};

using Pack = std::function<void(Net& net, const at::Tensor& token)>;

void pack_of(Net& net, const at::Tensor& token, bool keeps) {
  const at::Tensor x = rms_norm(embedding(token, net.table()), net.norm(), 1e-6);
  const SelectedLogprob scores = selected_logprob(x, net.head(), there(at::arange(6, at::kLong)), token, 1.0, keeps);
  (linear(x, net.weight(), &net.bias()).sum() + scores.logp.sum() + scores.entropy.sum()).backward();
}

void whole_pack(Net& net, const at::Tensor& token) { pack_of(net, token, /*keeps=*/false); }
void keeping_pack(Net& net, const at::Tensor& token) { pack_of(net, token, /*keeps=*/true); }

/// Without a bias; table and head as slices of a vocabulary, some tokens in another one.
void sliced_pack(Net& net, const at::Tensor& token) {
  const at::Tensor local = token.masked_fill(token.lt(4), -1), row = there(at::arange(6, at::kLong));
  const at::Tensor x = partial_embedding(local, net.table());
  linear(x, net.weight()).sum().backward();
  const PartialLogprob part = partial_logprob(x.detach(), net.head().value.detach(), row, local, 1, true);
  const MergedLogprob merged{.logp = {}, .lse = part.lse, .entropy = part.entropy, .argmax = {}};
  partial_logprob_backward(at::ones_like(part.logit), {}, x.detach(), net.head().value.detach(), row, local, merged, 1,
                           MainGrad(net.head()), part.logits.defined() ? std::optional(part.logits) : std::nullopt);
}

/// Its weight gradients run later, in their order.
void deferred_pack(Net& net, const at::Tensor& token) {
  const auto queue = c10::make_intrusive<WeightGradientQueue>();
  for (const ParameterPtr& parameter : net.all) parameter->queue = queue;
  queue->open(0);
  whole_pack(net, token);
  linear(rms_norm(embedding(token, net.table()), net.norm(), 1e-6), net.weight()).sum().backward();
  queue->close();
  queue->run(0);
}

void expect_those_of_zeros(at::ScalarType dtype, const Pack& pack) {
  Net filled(dtype), begun(dtype);
  const FlatParameters zeros(filled.all);  // which lies in memory as the other does
  FlatParameters flat(begun.all);
  flat.main_grad().fill_(std::numeric_limits<double>::quiet_NaN());
  flat.begin_gradients();
  for (int round = 0; round < 3; ++round) {
    const at::Tensor token = there(at::arange(6, at::kLong) * 3 + round);
    pack(filled, token), pack(begun, token);
  }
  flat.settle_gradients(0, begun.all.size());
  for (size_t i = 0; i < begun.all.size(); ++i) {
    const at::Tensor own = here(begun.all[i]->main_grad), other = here(filled.all[i]->main_grad);
    // A device's product that reads nothing may go another way than one that adds to zeros.
    EXPECT_TRUE(test::where().is_cpu() ? at::equal(own, other) : test::relative_error(own, other) < 1e-6) << i;
  }
  EXPECT_TRUE(at::equal(here(begun.all.back()->main_grad), at::zeros({5, 5})));
}

class MainGrads : public testing::TestWithParam<at::ScalarType> {};

TEST_P(MainGrads, OfAWholeModelAreThoseThatWereFilledWithZeros) { expect_those_of_zeros(GetParam(), whole_pack); }
TEST_P(MainGrads, OfKeptLogitsAreThoseThatWereFilledWithZeros) { expect_those_of_zeros(GetParam(), keeping_pack); }
TEST_P(MainGrads, OfSlicesAreThoseThatWereFilledWithZeros) { expect_those_of_zeros(GetParam(), sliced_pack); }
TEST_P(MainGrads, OfDeferredWorkAreThoseThatWereFilledWithZeros) { expect_those_of_zeros(GetParam(), deferred_pack); }

TEST_P(MainGrads, OfPacksWithoutRowsAreZeros) {
  Net net(GetParam());
  FlatParameters flat(net.all);
  flat.main_grad().fill_(std::numeric_limits<double>::quiet_NaN());
  flat.begin_gradients();
  const at::Tensor none = there(at::empty({0}, at::kLong)), x = embedding(none, net.table());
  linear(x, net.weight(), &net.bias()).sum().backward();
  selected_logprob(x.detach(), net.head(), none, none).logp.sum().backward();
  flat.settle_gradients(0, net.all.size());
  for (const ParameterPtr& parameter : net.all)
    EXPECT_TRUE(at::equal(here(parameter->main_grad), at::zeros(parameter->value.sizes()))) << parameter->name;
}

INSTANTIATE_TEST_SUITE_P(DTypes, MainGrads, testing::Values(at::kFloat, at::kBFloat16));

}  // namespace
}  // namespace fpdist::ops
