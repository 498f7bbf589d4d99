// The operators on a GPU against the CPU twins: float32 to 1e-5, bfloat16 within its rounding, the same bits twice, and
// never a wait for the device. Without a GPU every test says so and is skipped.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAFunctions.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "fpdist/ops/functional.hpp"
#include "fpdist/optim/adamw.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/tree_attention/planned_attention.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "support/random_tree.hpp"

namespace fpdist::kernels {
namespace {

using Tensors = std::vector<at::Tensor>;
/// An operator over floating inputs; what else it takes is captured.
using Operator = std::function<Tensors(const Tensors&)>;

/// While it lives, whatever makes the host wait for the device throws.
class NoWaiting {
 public:
  NoWaiting() : before_(c10::cuda::warning_state().get_sync_debug_mode()) {
    c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR);
  }
  ~NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(before_); }
  NoWaiting(const NoWaiting&) = delete;
  NoWaiting& operator=(const NoWaiting&) = delete;

 private:
  c10::cuda::SyncDebugMode before_;
};

Tensors moved(const Tensors& all, at::Device device) {
  Tensors result;
  for (const at::Tensor& x : all) result.push_back(x.to(device));
  return result;
}
Tensors cast(const Tensors& all, at::ScalarType dtype) {
  Tensors result;
  for (const at::Tensor& x : all) result.push_back(x.to(dtype));
  return result;
}

/// A constant of an operator, on the CPU and on the GPU beforehand: moving it there would be a wait.
std::function<at::Tensor(const at::Tensor&)> on_both(const at::Tensor& host) {
  return [host, there = host.cuda()](const at::Tensor& like) { return like.is_cuda() ? there : host; };
}

double rms_error(const at::Tensor& x, const at::Tensor& exact) {
  const at::Tensor wide = exact.to(at::kDouble);
  return (x.to(at::kCPU, at::kDouble) - wide).square().mean().sqrt().item<double>() /
         std::max(1e-30, wide.square().mean().sqrt().item<double>());
}

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "SKIPPED: no GPU on this machine: nothing was compared";
    at::manual_seed(20261121);
  }

  Tensors on_gpu(const Operator& run, const Tensors& inputs) {
    const Tensors there = moved(inputs, at::kCUDA);
    run(there);  // what is made once (handles, plans, modules) may wait
    const NoWaiting guard;
    return run(there);
  }

  void expect_float32_parity(const Operator& run, const Tensors& inputs) {
    const Tensors want = run(inputs), got = on_gpu(run, inputs), again = on_gpu(run, inputs);
    for (size_t i = 0; i < want.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "result " << i);
      EXPECT_TRUE(got[i].is_cuda());
      EXPECT_EQ(got[i].scalar_type(), want[i].scalar_type());
      EXPECT_LT(test::relative_error(got[i].cpu(), want[i]), 1e-5);
      EXPECT_TRUE(at::equal(got[i], again[i])) << "two runs differ";
    }
  }

  /// Its error against float32 is at most `factor` times that of the bfloat16 twin, or of rounding the exact result
  /// once where the twin keeps float32.
  void expect_bfloat16_error(const Operator& run, const Tensors& inputs, double factor = 2) {
    const Tensors narrow = cast(inputs, at::kBFloat16);
    const Tensors exact = run(cast(narrow, at::kFloat)), twin = run(narrow), got = on_gpu(run, narrow);
    const Tensors again = on_gpu(run, narrow);
    for (size_t i = 0; i < exact.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "result " << i);
      const double allowed = std::max(rms_error(twin[i], exact[i]), rms_error(exact[i].to(at::kBFloat16), exact[i]));
      EXPECT_EQ(got[i].scalar_type(), twin[i].scalar_type());
      EXPECT_LE(rms_error(got[i], exact[i]), factor * allowed + 1e-6);
      EXPECT_TRUE(at::equal(got[i], again[i])) << "two runs differ";
    }
  }

  void expect_twins(const Operator& run, const Tensors& inputs, double factor = 2) {
    expect_float32_parity(run, inputs);
    expect_bfloat16_error(run, inputs, factor);
  }
};

TEST_F(Gpu, LinearForwardAndAllItsGradients) {
  const Operator run = [](const Tensors& in) -> Tensors {
    const at::Tensor &x = in[0], &w = in[1], &b = in[2], &dy = in[3];
    const auto wide = x.options().dtype(at::kFloat);
    at::Tensor dw = at::ones(w.sizes(), wide), dw_too = dw.clone(), db = at::ones(b.sizes(), wide);
    linear_backward_weight(dy, x, dw);
    linear_backward_weight_bias(dy, x, dw_too, db);
    return {linear(x, w, {}, {}, {}), linear(x, w, b, {}, {}), linear_backward_input(dy, w), dw, dw_too, db};
  };
  for (const auto& [rows, in, out] : {std::tuple{256, 128, 512}, {1000, 64, 24}, {1, 8, 8}, {33, 40, 72}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << in << " x " << out);
    expect_twins(run, {at::randn({rows, in}), at::randn({out, in}), at::randn({out}), at::randn({rows, out})});
  }
}

TEST_F(Gpu, LinearWithFewerSmsGivesTheSameProduct) {
  const at::Tensor x = at::randn({512, 256}).to(at::kBFloat16).cuda(),
                   w = at::randn({384, 256}).to(at::kBFloat16).cuda();
  const at::Tensor all = linear(x, w, {}, {}, {});
  find_operator<void(int64_t, int64_t)>("fpdist::set_sm_target").call(x.device().index(), 64);
  const at::Tensor fewer = linear(x, w, {}, {}, {});
  find_operator<void(int64_t, int64_t)>("fpdist::set_sm_target").call(x.device().index(), 0);
  EXPECT_LT(rms_error(fewer.cpu(), all.cpu()), 4e-3);
}

TEST_F(Gpu, PointwiseForwardAndBackward) {
  const at::Tensor angle = at::randn({300, 16}) * 1000;
  const auto cosine = on_both(at::cos(angle)), sine = on_both(at::sin(angle));
  const Operator turn = [=](const Tensors& in) -> Tensors {
    const at::Tensor c = cosine(in[0]), s = sine(in[0]);
    return {rotary(in[0], c, s, false), rotary(in[0], c, s, true)};
  };
  expect_twins(turn, {at::randn({300, 4, 32})});
  const Operator gate = [](const Tensors& in) -> Tensors {
    const auto [dg, du] = swiglu_backward(in[2], in[0], in[1]);
    return {swiglu(in[0], in[1]), dg, du};
  };
  expect_twins(gate, {at::randn({300, 40}) * 5, at::randn({300, 40}), at::randn({300, 40})});
  const Operator norm = [](const Tensors& in) -> Tensors {
    const auto [dx, dw] = rms_norm_backward(in[2], in[0], in[1], 1e-6);
    return {rms_norm(in[0], in[1], 1e-6, {}), dx, dw};
  };
  expect_twins(norm, {at::randn({300, 64}), at::randn({64}), at::randn({300, 64})});
}

TEST_F(Gpu, LogprobForwardAndBackward) {
  const auto row = on_both(std::get<0>(at::randint(0, 50, {90}, at::kLong).sort()));
  const auto target = on_both(at::randint(-1, 1000, {90}, at::kLong));
  const auto grad_logp = on_both(at::randn({90})), grad_entropy = on_both(at::randn({50}));
  const Operator run = [=](const Tensors& in) -> Tensors {
    const at::Tensor r = row(in[0]), t = target(in[0]);
    const auto [logit, lse, entropy, best, argmax] = partial_logprob(in[0], in[1], r, t, 0.8);
    at::Tensor dw = at::ones(in[1].sizes(), lse.options());
    const at::Tensor dh =
        selected_logprob_backward(grad_logp(in[0]), grad_entropy(in[0]), in[0], in[1], r, t, lse, entropy, 0.8, dw);
    return {at::exp(logit), lse, entropy, best, dh, dw};
  };
  // In bfloat16 the logits' gradient is rounded for its two products, beside the result.
  expect_twins(run, {at::randn({50, 64}) * 0.3, at::randn({1000, 64}) * 0.3});
}

struct Rows {
  at::Tensor q_row, k_row, k_end;
};
Rows whole_pack(const std::vector<int32_t>& end) {
  const at::Tensor row = at::arange(static_cast<int64_t>(end.size()), at::kInt);
  return {row, row, test::int_tensor(end)};
}

/// Through the plan that a trainer holds; `deterministic` false lets cuDNN in.
Operator attention(const Rows& rows, double scale, bool deterministic) {
  return [=](const Tensors& in) -> Tensors {
    const auto plan = ops::prepare_attention(rows.q_row, rows.k_row, rows.k_end, in[0].device(), deterministic);
    if (!plan) {
      const auto [out, lse] = tree_attention(in[0], in[1], in[2], rows.q_row, rows.k_row, rows.k_end, scale);
      const auto [dq, dk, dv] =
          tree_attention_backward(in[3], in[0], in[1], in[2], out, lse, rows.q_row, rows.k_row, rows.k_end, scale);
      return {out, lse, dq, dk, dv};
    }
    const auto [out, lse] = planned_attention(in[0], in[1], in[2], *plan, scale);
    const auto [dq, dk, dv] = planned_attention_backward(in[3], in[0], in[1], in[2], out, lse, *plan, scale);
    return {out, lse, dq, dk, dv};
  };
}

Tensors attention_inputs(const Rows& rows, int64_t key_heads, int64_t group, int64_t head_size) {
  const int64_t tq = rows.q_row.numel(), tk = rows.k_row.numel();
  return {at::randn({tq, key_heads * group, head_size}), at::randn({tk, key_heads, head_size}),
          at::randn({tk, key_heads, head_size}), at::randn({tq, key_heads * group, head_size})};
}

// Backward rounds P and dS to bfloat16 on the way, each once, beside the result.
constexpr double kAttentionFactor = 4;

TEST_F(Gpu, AttentionOnTreesOfAllShapes) {
  for (const int64_t head_size : {64, 128}) {
    for (const int64_t group : {1, 4}) {
      SCOPED_TRACE(testing::Message() << "head " << head_size << " group " << group);
      const Rows fan = whole_pack(test::fan_subtree_ends(300, 4, 100));
      expect_twins(attention(fan, 0.1, true), attention_inputs(fan, 2, group, head_size), kAttentionFactor);
    }
  }
  for (uint64_t seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed);
    const Rows forest = whole_pack(test::random_subtree_ends(rng, 400, seed % 2 ? 100 : 1));  // 1: lone rows only
    expect_twins(attention(forest, 0.1, true), attention_inputs(forest, 2, 2, 64), kAttentionFactor);
  }
}

TEST_F(Gpu, AttentionOverPartOfTheKeys) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed, 1);
    const Rows all = whole_pack(test::random_subtree_ends(rng, 500, 120));
    const auto pick = [&] { return at::rand({500}).lt(0.5).nonzero().squeeze(1); };
    const at::Tensor q = pick(), k = pick();
    const Rows some{all.q_row.index_select(0, q), all.k_row.index_select(0, k), all.k_end.index_select(0, k)};
    const Operator run = [some](const Tensors& in) -> Tensors {
      // -inf is a row without keys: what is left is a number on both sides.
      Tensors result = attention(some, 0.1, true)(in);
      result[1] = at::exp(result[1]);
      return result;
    };
    expect_twins(run, attention_inputs(some, 2, 2, 64), kAttentionFactor);
  }
}

TEST_F(Gpu, AttentionWithLogitsNearMinus120AtLengthsOf64Modulo128) {
  // What made cuDNN's backward return NaN (pytorch 196678): every score below float32's exponent range of exp.
  for (const bool deterministic : {true, false}) {
    SCOPED_TRACE(deterministic);
    const Rows fan = whole_pack(test::fan_subtree_ends(192, 3, 64));
    Tensors in = attention_inputs(fan, 2, 1, 64);
    in[0] = in[0] * 0.1 + 3.87, in[1] = in[1] * 0.1 - 3.87;
    for (const at::Tensor& x : on_gpu(attention(fan, 0.125, deterministic), cast(in, at::kBFloat16)))
      EXPECT_TRUE(at::isfinite(x).all().item<bool>());
    expect_float32_parity(attention(fan, 0.125, deterministic), in);
  }
}

TEST_F(Gpu, AttentionWhereCudnnMayBeTaken) {
  const Rows fan = whole_pack(test::fan_subtree_ends(1000, 4, 250));  // the full call has one segment
  const Tensors in = attention_inputs(fan, 2, 2, 128), narrow = cast(in, at::kBFloat16);
  const Tensors exact = attention(fan, 0.09, true)(cast(narrow, at::kFloat));
  const Tensors got = attention(fan, 0.09, false)(moved(narrow, at::kCUDA));
  for (size_t i = 0; i < exact.size(); ++i)
    EXPECT_LE(rms_error(got[i], exact[i]), kAttentionFactor * rms_error(exact[i].to(at::kBFloat16), exact[i]) + 1e-6);
}

TEST_F(Gpu, AttentionWithoutAPlanMakesOne) {
  const Rows fan = whole_pack(test::fan_subtree_ends(100, 3, 30));
  const Operator run = [fan](const Tensors& in) -> Tensors {
    const auto [out, lse] = tree_attention(in[0], in[1], in[2], fan.q_row, fan.k_row, fan.k_end, 0.1);
    return {out, lse};
  };
  expect_twins(run, attention_inputs(fan, 2, 2, 64));
}

TEST_F(Gpu, EmbeddingAddsRepeatedTokensInOneOrder) {
  const at::Tensor token = at::randint(0, 20, {500}, at::kLong), dy = at::randn({500, 64});
  const auto run = [&](at::Device device) {
    ops::Parameter table;
    table.name = "embedding";
    table.value = at::zeros({20, 64}, device).requires_grad_(true);
    table.main_grad = at::zeros({20, 64}, device);
    ops::embedding(token.to(device), table).backward(dy.to(device));
    return table.main_grad;
  };
  const at::Tensor got = run(at::kCUDA);
  EXPECT_LT(test::relative_error(got.cpu(), run(at::kCPU)), 1e-5);
  for (int repeat = 0; repeat < 5; ++repeat) EXPECT_TRUE(at::equal(got, run(at::kCUDA)));
}

TEST_F(Gpu, AdamWStepsAsOnTheCpuWithoutWaiting) {
  const at::Tensor start = at::randn({1000}), grad = at::randn({1000});
  at::Tensor here = start.to(at::kBFloat16), there = here.cuda();
  optim::AdamW host(here, 0, 600, {}), device(there, 0, 600, {});
  const at::Tensor grad_there = grad.cuda();
  device.step(grad_there, 1e-3), host.step(grad, 1e-3);
  for (int step = 0; step < 4; ++step) {
    const NoWaiting guard;
    device.step(grad_there, 1e-3), host.step(grad, 1e-3);
  }
  EXPECT_LT(test::relative_error(device.master().cpu(), host.master()), 1e-6);
}

}  // namespace
}  // namespace fpdist::kernels
