// Our own GPU kernels as the operators call them: rows of a real model's width, rows that stand apart, rows too wide
// for them, the same bits twice, and on the emulated GPU what they move.
#include <ATen/ATen.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "tests/emulation/cuda/kernel_counts.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::kernels {
namespace {

using test::here, test::Made, test::there;

using Tensors = std::vector<at::Tensor>;
/// An operator on tensors of any device.
using Operator = std::function<Tensors(const Tensors&)>;

Tensors both(const std::tuple<at::Tensor, at::Tensor>& pair) { return {std::get<0>(pair), std::get<1>(pair)}; }

/// On the device it is the CPU twin's result within roundings, and the same bits again.
void expect_twin(const char* what, const Operator& run, const Tensors& in) {
  SCOPED_TRACE(what);
  Tensors beyond;
  for (const at::Tensor& tensor : in)
    beyond.push_back(tensor.is_contiguous() ? there(tensor) : [&] {
      // As it lies: a copy to the device would be dense.
      at::Tensor whole = there(at::zeros({tensor.size(0), tensor.stride(0)}, tensor.options()));
      at::Tensor part = whole.narrow(1, 0, tensor.size(1));
      part.copy_(tensor);
      return part;
    }());
  const Tensors own = run(beyond), again = run(beyond), expected = run(in);
  for (size_t i = 0; i < own.size(); ++i) {
    EXPECT_EQ(own[i].scalar_type(), expected[i].scalar_type());
    EXPECT_LT(test::relative_error(here(own[i]), expected[i]),
              2 * test::tolerance(Made::kProduct, in[0].scalar_type()));
    EXPECT_TRUE(at::equal(here(own[i]), here(again[i])));
  }
}

Tensors rms_norm_of(const Tensors& in) { return {rms_norm(in[0], in[1], 1e-6, {})}; }
Tensors rms_norm_backward_of(const Tensors& in) { return both(rms_norm_backward(in[2], in[0], in[1], 1e-6)); }
Tensors swiglu_of(const Tensors& in) { return {swiglu(in[0], in[1])}; }
Tensors swiglu_backward_of(const Tensors& in) { return both(swiglu_backward(in[2], in[0], in[1])); }

/// Of hidden rows and a weight; a score a row.
Tensors selected_logprob_of(const Tensors& in) {
  const auto [logp, entropy, argmax, lse] = selected_logprob(in[0], in[1], in[2], in[3], 0.7, {});
  at::Tensor dw = at::ones(in[1].sizes(), logp.options());
  const at::Tensor dh = selected_logprob_backward(in[4], in[5], in[0], in[1], in[2], in[3], lse, entropy, 0.7, dw);
  return {dh, logp, entropy, lse, dw};
}

class Pointwise : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (test::where().is_cpu()) GTEST_SKIP() << "SKIPPED: run with --device cuda";
    at::manual_seed(20261126);
  }
  static at::Tensor random(at::IntArrayRef sizes) { return at::randn(sizes).to(GetParam()); }
};

TEST_P(Pointwise, RowsOfARealModelsWidthAreTheTwins) {
  // Part of a warp, a warp, several; more rows than there are partial sums; more than a block's registers hold.
  for (const auto& [rows, width] : {std::pair{1100, 128}, {70, 1024}, {530, 3584}, {3, 5120}, {2, 20480}, {9, 2049}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << width);
    const at::Tensor x = random({rows, width}), weight = random({width}), dy = random({rows, width});
    expect_twin("rms_norm", rms_norm_of, {x, weight});
    expect_twin("rms_norm_backward", rms_norm_backward_of, {x, weight, dy});
  }
  const at::Tensor gate = random({33, 18944}), up = random({33, 18944}), dy = random({33, 18944});
  expect_twin("swiglu", swiglu_of, {gate, up});
  expect_twin("swiglu_backward", swiglu_backward_of, {gate, up, dy});
  const at::Tensor q = random({70, 28, 128}), angle = at::rand({70, 64}) * 1e5;
  for (const bool is_inverse : {false, true})
    expect_twin("rotary", [&](const Tensors& in) { return Tensors{rotary(in[0], in[1], in[2], is_inverse)}; },
                {q, angle.cos(), angle.sin()});
}

TEST_P(Pointwise, RowsThatStandApartAreTheTwins) {
  for (const int64_t gap : {8, 1}) {
    const auto apart = [&](int64_t rows, int64_t width) { return random({rows, width + gap}).narrow(1, 0, width); };
    const at::Tensor x = apart(40, 256), y = apart(40, 256), dy = apart(40, 256);
    expect_twin("swiglu", swiglu_of, {x, y});
    expect_twin("swiglu_backward", swiglu_backward_of, {x, y, dy});
    expect_twin("rms_norm", rms_norm_of, {x, random({256})});
    expect_twin("rms_norm_backward", rms_norm_backward_of, {x, random({256}), dy});
  }
  const at::Tensor x = random({40, 256});
  EXPECT_TRUE(at::equal(here(swiglu(there(x).t(), there(x).t())),
                        here(swiglu(there(x.t().contiguous()), there(x.t().contiguous())))));
}

TEST_P(Pointwise, LogprobsOverAVocabularyOfAnyLengthAreTheTwins) {
  for (const int64_t vocabulary : {50257, 4096, 37}) {
    SCOPED_TRACE(vocabulary);
    const at::Tensor row = at::arange(5, at::kLong), target = at::randint(vocabulary, {5}, at::kLong);
    expect_twin("selected_logprob", selected_logprob_of,
                {random({5, 16}), random({vocabulary, 16}), row, target, at::randn({5}), at::randn({5})});
  }
}

TEST_P(Pointwise, AreOneLaunchThatMovesWholeSectors) {
  const auto counts_of =
      reinterpret_cast<decltype(&fpdist_emulated_kernel_counts)>(dlsym(RTLD_DEFAULT, "fpdist_emulated_kernel_counts"));
  if (counts_of == nullptr) GTEST_SKIP() << "SKIPPED: a real GPU does not count";
  const auto moved = [&](const char* name, const Operator& run, const Tensors& in) {
    emulated::KernelCounts before, after;
    here(in[0].new_zeros({1}));  // all is done
    counts_of(name, &before);
    here(run(in)[0]);
    counts_of(name, &after);
    EXPECT_EQ(after.least_sectors - before.least_sectors, after.sectors - before.sectors) << name;
    return std::pair{after.launches - before.launches, (after.sectors - before.sectors) * 32};
  };
  const at::Tensor x = there(random({16, 1024}));
  const uint64_t bytes = x.nbytes();
  EXPECT_EQ(moved("swiglu", swiglu_of, {x, x}), (std::pair{uint64_t{1}, 3 * bytes}));
  EXPECT_EQ(moved("swiglu", swiglu_backward_of, {x, x, x}), (std::pair{uint64_t{1}, 5 * bytes}));
  EXPECT_EQ(moved("rms_norm_forward", rms_norm_of, {x, x[0]}),
            (std::pair{uint64_t{1}, 3 * bytes}));  // weights with each row
  // A row's logits forward, and the logits and their gradient backward; beside them a few sectors of a row's own.
  const at::Tensor score = there(at::arange(16, at::kLong)), grad = there(at::randn({16}));
  const Tensors scores = {x.narrow(1, 0, 16).contiguous(), there(random({1024, 16})), score, score, grad, grad};
  const auto [forward_launches, forward] = moved("selected_logprob_forward", selected_logprob_of, scores);
  const auto [backward_launches, backward] = moved("selected_logprob_backward", selected_logprob_of, scores);
  EXPECT_EQ(forward_launches + backward_launches, 2u);
  EXPECT_LE(forward, uint64_t{16} * (1024 * 4 + 32 * 16));
  EXPECT_LE(backward, 16 * (1024 * (4 + scores[0].element_size()) + 32 * 32));
}

INSTANTIATE_TEST_SUITE_P(DTypes, Pointwise, testing::Values(at::kFloat, at::kBFloat16));

}  // namespace
}  // namespace fpdist::kernels
