// That our loops run on several threads, and that their results do not tell on how many.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/ops/functional.hpp"
#include "fpdist/ops/parameter.hpp"
#include "kernels/keyed_dropout/keyed_dropout.hpp"
#include "kernels/linear/mixed_sums.hpp"
#include "kernels/nf4/nf4.hpp"
#include "kernels/nf4/quantize.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "src/optim/clip.hpp"
#include "tests/support/random/random_tree.hpp"

namespace {
std::atomic<int> regions = 0;
}

/// Stands before OpenMP's own: counts the parallel regions that libfpdist itself enters. (torch's are its own
/// business.)
extern "C" void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned flags) {
  using Real = void (*)(void (*)(void*), void*, unsigned, unsigned);
  static const auto real = reinterpret_cast<Real>(::dlsym(RTLD_NEXT, "GOMP_parallel"));
  Dl_info from;
  if (::dladdr(reinterpret_cast<void*>(work), &from) != 0 &&
      std::string_view(from.dli_fname).find("libfpdist.") != std::string_view::npos)
    ++regions;
  real(work, data, threads, flags);
}

namespace fpdist {
namespace {

using Tensors = std::vector<at::Tensor>;

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

class Threads : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  ~Threads() override { at::set_num_threads(before_); }
  at::Tensor random(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).to(GetParam()); }
  at::Tensor random_wide(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).to(wide_); }

  static ops::Parameter parameter(at::Tensor value) {
    ops::Parameter parameter;
    parameter.name = "weight", parameter.value = value.requires_grad_();
    return parameter;
  }

  /// What `work` gives on 1, 2, 3 and 5 threads is the same, and with more than one it enters regions of ours.
  void expect_same(const std::function<Tensors()>& work) {
    at::set_num_threads(1);
    regions = 0;
    const Tensors one = work();
    EXPECT_EQ(regions, 0) << "on one thread";
    for (const int threads : {2, 3, 5}) {
      at::set_num_threads(threads);
      regions = 0;
      const Tensors all = work();
      EXPECT_GT(regions, 0) << "of " << threads << " threads one alone did the work";
      ASSERT_EQ(all.size(), one.size());
      for (size_t i = 0; i < all.size(); ++i)
        EXPECT_TRUE(same_bits(all[i], one[i])) << "result " << i << ", " << threads << " threads";
    }
  }

  at::ScalarType wide_ = GetParam() == at::kDouble ? at::kDouble : at::kFloat;

 private:
  int before_ = at::get_num_threads();
};

TEST_P(Threads, SwigluAndItsBackward) {
  const at::Tensor gate = random({1031, 173}), up = random({1031, 173}), grad = random({1031, 173});
  expect_same([&] { return Tensors{kernels::swiglu(gate, up)}; });
  expect_same([&] {
    const auto [gates, ups] = kernels::swiglu_backward(grad, gate, up);
    return Tensors{gates, ups};
  });
}

TEST_P(Threads, KeyedDropout) {
  const at::Tensor x = random({1031, 173}), key = at::arange(1031, at::kLong);
  expect_same([&] { return Tensors{kernels::keyed_dropout(x, key, 1, 0.3, 0)}; });
}

TEST_P(Threads, Nf4BothWays) {
  const at::Tensor matrix = random({1031, 173}).to(at::kFloat);
  expect_same([&] {
    const kernels::Nf4 made = kernels::quantize_nf4(matrix, true);
    return Tensors{made.code, made.absmax, kernels::dequantize_nf4(made, at::kFloat)};
  });
}

TEST_P(Threads, RmsNormAndItsBackward) {
  const at::Tensor x = random({1031, 67}), weight = random({67}), grad = random({1031, 67});
  expect_same([&] { return Tensors{kernels::rms_norm(x, weight, 1e-6, {})}; });
  expect_same([&] {
    const auto [dx, dw] = kernels::rms_norm_backward(grad, x, weight, 1e-6);
    return Tensors{dx, dw};
  });
}

TEST_P(Threads, Rotary) {
  const at::Tensor x = random({1031, 3, 38}), cos = random_wide({1031, 19}), sin = random_wide({1031, 19});
  expect_same([&] { return Tensors{kernels::rotary(x, cos, sin, false), kernels::rotary(x, cos, sin, true)}; });
}

TEST_P(Threads, TreeAttentionAndItsBackward) {
  Rng rng(7);
  for (const int32_t branch : {60, 3}) {  // 3: by the loops for small pieces, where no kernel of blocks is there
    const std::vector<int32_t> end = test::random_subtree_ends(rng, 400, branch);
    std::vector<int32_t> row(end.size());
    for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<int32_t>(i);
    const at::Tensor rows = test::int_tensor(row);
    const kernels::AttentionMask mask{rows, rows, test::int_tensor(end)};
    const kernels::AttentionInputs in{random({400, 6, 64}), random({400, 3, 64}), random({400, 3, 64})};
    const at::Tensor grad = random_wide({400, 6, 64});
    expect_same([&] {
      const kernels::AttentionOutput output = kernels::tree_attention(in, mask, {.scale = 0.125});
      const auto [dq, dk, dv] = kernels::tree_attention_backward(grad, in, output, mask, {.scale = 0.125});
      return Tensors{output.out, output.lse, dq, dk, dv};
    });
  }
}

TEST_P(Threads, SelectedLogprobAndItsBackward) {
  const at::Tensor hidden = random({211, 48}).requires_grad_();
  ops::Parameter weight = parameter(random({307, 48}));
  const at::Tensor row = at::arange(211), target = at::randint(0, 307, {211});
  const at::Tensor grad = random_wide({211});
  expect_same([&] {
    weight.main_grad = at::zeros({307, 48}, wide_);
    const at::Tensor logp = ops::selected_logprob(hidden, weight, row, target).logp;
    const Tensors gradients = torch::autograd::grad({logp}, {hidden}, {grad});
    return Tensors{logp.detach(), gradients[0], weight.main_grad};
  });
}

TEST_P(Threads, EmbeddingGradients) {
  ops::Parameter weight = parameter(random({19, 331}));
  const at::Tensor token = at::randint(0, 19, {300}), grad = random({300, 331});
  expect_same([&] {
    weight.main_grad = at::zeros({19, 331}, wide_);
    ops::embedding(token, weight).backward(grad);
    return Tensors{weight.main_grad};
  });
}

TEST_P(Threads, SumsOfBfloat16) {
  if (GetParam() != at::kBFloat16) GTEST_SKIP() << "the others' are ATen's";
  const at::Tensor x = random({1031, 331}), vector = random_wide({331});
  expect_same([&] { return Tensors{kernels::column_sum(x)}; });
  expect_same([&] { return Tensors{kernels::row_products(x, vector)}; });
}

TEST_P(Threads, TheGradientsNorm) {
  if (GetParam() == at::kBFloat16) GTEST_SKIP() << "gradients are never bfloat16";
  const Tensors pieces{random({300'001}), random({70'000})};
  comm::run_threads(1, [&](comm::World& world) {
    expect_same([&] { return Tensors{optim::global_norm(pieces, world.communicator())}; });
  });
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Threads, ::testing::Values(at::kDouble, at::kFloat, at::kBFloat16),
                         [](const auto& dtype) { return std::string(c10::toString(dtype.param)); });

}  // namespace
}  // namespace fpdist
