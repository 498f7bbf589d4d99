// What only a GPU has: operators that never make the host wait, products on fewer SMs, float32 sums of bfloat16
// products, several ways through attention with guards around their faults. The laws of the operators themselves are
// kernels_operators_test's, on this device too.
#include <ATen/ATen.h>

#include "fpdist/ops/attention_calls.hpp"
#include "kernels/keyed_dropout/keyed_dropout.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/nf4/nf4.hpp"
#include "kernels/nf4/quantize.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/library/varlen.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "src/optim/adamw.hpp"
#include "tests/kernels/gpu_case.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/laws/tolerance.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist::kernels {
namespace {

TEST_F(Gpu, NoOperatorWaitsForTheDevice) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(dtype);
    const at::Tensor x = random({64, 32}, dtype), w = random({48, 32}, dtype), b = random({48}, dtype);
    const at::Tensor dy = random({64, 48}, dtype), gain = random({32}, dtype), heads = random({64, 4, 16}, dtype);
    at::Tensor dw = random({48, 32}), db = random({48});
    expect_no_waiting("linear", [&] {
      linear(x, w, b, {}, {});
      linear_backward_input(dy, w);
      linear_backward_weight(dy, x, dw);
      linear_backward_weight_bias(dy, x, dw, db);
    });
    const at::Tensor angle = random({64, 8});
    expect_no_waiting("rotary", [&] { rotary(heads, angle, angle, true); });
    Nf4 matrix = quantize_nf4(at::randn({48, 64}), true);
    for (at::Tensor* part : {&matrix.code, &matrix.absmax, &matrix.nested_absmax, &matrix.nested_map})
      *part = there(*part);
    expect_no_waiting("dequantize_nf4", [&] { dequantize_nf4(matrix, dtype), dequantize_nf4(matrix, at::kDouble); });
    const at::Tensor key = there(at::arange(64, at::kLong));
    expect_no_waiting("keyed_dropout", [&] { keyed_dropout(x, key, 1, 0.2, 0); });
    expect_no_waiting("swiglu", [&] { swiglu_backward(x, swiglu(x, x), x); });
    expect_no_waiting("rms_norm", [&] { rms_norm_backward(rms_norm(x, gain, 1e-6, {}), x, gain, 1e-6); });
    const at::Tensor score = there(at::arange(40, at::kLong)), logp = random({40}), entropy = random({64});
    expect_no_waiting("selected_logprob", [&] {
      const auto scores = selected_logprob(x, w, score, score, 0.8, {});
      selected_logprob_backward(logp, entropy, x, w, score, score, std::get<3>(scores), std::get<1>(scores), 0.8, dw);
    });
    const at::Tensor row = at::arange(64, at::kInt), end = test::int_tensor(test::fan_subtree_ends(24, 4, 10));
    const AttentionInputs in{heads, heads, heads};
    const AttentionMask mask{row, row, end};
    const auto calls = ops::prepare_attention(mask, heads.device());
    ASSERT_NE(calls, nullptr);
    expect_no_waiting("tree_attention by its calls",
                      [&] { run_calls_backward(heads, in, run_calls(in, *calls, {}), *calls, {}); });
    expect_no_waiting("tree_attention",
                      [&] { tree_attention_backward(heads, in, tree_attention(in, mask, {}), mask, {}); });
  }
}

TEST_F(Gpu, LinearWithFewerSmsGivesTheSameProduct) {
  const at::Tensor x = random({512, 256}, at::kBFloat16), w = random({384, 256}, at::kBFloat16);
  const at::Tensor all = linear(x, w, {}, {}, {});
  const auto set_sm_target = find_operator<void(int64_t, int64_t)>("fpdist::set_sm_target");
  set_sm_target.call(x.device().index(), 64);
  const at::Tensor fewer = linear(x, w, {}, {}, {});
  set_sm_target.call(x.device().index(), 0);
  EXPECT_LT(test::relative_error(here(fewer), here(all)), test::tolerance(Made::kProduct, at::kBFloat16));
}

TEST_F(Gpu, Bfloat16WeightGradientsAddUpInFloat32OverManyCalls) {
  // A main grad that has grown to a thousand times what a call adds: in bfloat16 it would stand still.
  at::Tensor dw = there(at::full({64, 48}, 1e3)), db = there(at::full({64}, 1e3));
  at::Tensor sum = at::full({64, 48}, 1e3, at::kDouble), bias_sum = at::full({64}, 1e3, at::kDouble);
  for (int call = 0; call < 20; ++call) {
    const at::Tensor x = random({96, 48}, at::kBFloat16) * 0.1, dy = random({96, 64}, at::kBFloat16);
    linear_backward_weight_bias(dy, x, dw, db);
    const at::Tensor wide_x = here(x).to(at::kDouble), wide_dy = here(dy).to(at::kDouble);
    sum += at::mm(wide_dy.t(), wide_x), bias_sum += wide_dy.sum(0);
  }
  EXPECT_EQ(dw.scalar_type(), at::kFloat);
  EXPECT_LT(test::relative_error(here(dw), sum), 1e-6);  // 20 additions at 2^-24 of the whole
  EXPECT_LT(test::relative_error(here(db), bias_sum), 1e-6);
}

Results run_backend(Backend backend, const VarlenCall& call, const Problem& p, const AttentionOptions& options) {
  const AttentionInputs in{call.q.select(p.in.q), call.k.select(p.in.k), call.k.select(p.in.v)};
  const at::Tensor grad = call.q.select(p.grad);
  const auto run = [&](auto forward, auto backward) -> Results {
    const AttentionOutput own = forward(in, call, options);
    const auto dtype = in.q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const AttentionOutput merged{own.out.to(dtype), own.lse.to(dtype)};  // as run_calls merges them
    const auto [dq, dk, dv] = backward(grad, in, merged, call, options);
    return {own.out, own.lse, dq, dk, dv};
  };
  if (backend == Backend::kFlash) return run(flash_forward, flash_backward);
  if (backend == Backend::kCudnn) return run(cudnn_forward, cudnn_backward);
  return run([](const auto&... all) { return math_forward(all...); },
             [](const auto&... all) { return math_backward(all...); });
}

/// Each of the pack's calls on what is chosen for it and on plain products, against plain products in float64. Returns
/// what was chosen. `slack` multiplies the tolerances.
std::vector<Backend> expect_backends(const AttentionMask& mask, const Problem& p, const AttentionOptions& options,
                                     double slack = 1) {
  const auto wide = [](const at::Tensor& x) { return x.to(at::kDouble); };
  const Problem exact_problem{{wide(p.in.q), wide(p.in.k), wide(p.in.v)}, wide(p.grad)};
  const AttentionCalls calls(mask, p.in.q.device(), capability());
  std::vector<Backend> chosen;
  for (const VarlenCall& call : calls.list()) {
    chosen.push_back(choose_backend(question_of(p.in.q, call, calls.capability(), options.deterministic)));
    const Results exact = run_backend(Backend::kMath, call, exact_problem, options);
    for (const Backend backend : {Backend::kMath, chosen.back()}) {
      SCOPED_TRACE(testing::Message() << "backend " << static_cast<int>(backend) << ", causal "
                                      << call.level.is_causal);
      const Results own = run_backend(backend, call, p, options);
      const auto dtype = backend == Backend::kMath ? at::kFloat : at::kBFloat16;  // products of widened elements
      for (size_t i = 0; i < exact.size(); ++i) {
        const Made made = i == 0 ? Made::kAttention : i == 1 ? Made::kSum : Made::kAttentionGradient;
        EXPECT_LT(test::relative_error(here(own[i]), here(exact[i])), slack * test::tolerance(made, dtype))
            << "result " << i;
      }
    }
  }
  return chosen;
}

TEST_F(Gpu, EveryWayThroughAttentionIsThatOfFloat64) {
  std::vector<int32_t> two_trees = test::fan_subtree_ends(60, 3, 20);
  for (const int32_t end : test::fan_subtree_ends(60, 3, 20)) two_trees.push_back(120 + end);
  const std::vector<std::pair<const char*, std::vector<int32_t>>> packs{
      {"one node: cuDNN may take it", std::vector<int32_t>(500, 500)},
      {"a full call of one segment: likewise", test::fan_subtree_ends(300, 4, 100)},
      {"two trees", two_trees},
      {"answers of one token", test::fan_subtree_ends(130, 3, 1)},
      {"a node of 64 modulo 128", std::vector<int32_t>(192, 192)},
      {"a full call of 64 modulo 128", test::fan_subtree_ends(192, 2, 32)},
      {"a lone row", {1}}};
  for (const auto& [what, end] : packs) {
    for (const int64_t head_size : {64, 128}) {
      for (const bool deterministic : {true, false}) {
        SCOPED_TRACE(testing::Message() << what << ", head " << head_size << ", deterministic " << deterministic);
        const AttentionMask mask = whole_pack(end);
        const Problem p = random_problem(mask, head_size == 64 ? 1 : 4, head_size);
        const auto chosen = expect_backends(mask, p, {.scale = 0.1, .deterministic = deterministic});
        for (const Backend backend : chosen) {
          EXPECT_EQ(backend == Backend::kMath, capability() < 80);
          EXPECT_FALSE(deterministic && backend == Backend::kCudnn);
        }
      }
    }
  }
}

TEST_F(Gpu, AttentionWithLogitsNearMinus120IsThatOfFloat64) {
  // What made cuDNN's backward return NaN (pytorch 196678): every score below float32's exponent range of exp.
  for (const int32_t length : {64, 63}) {
    for (const bool deterministic : {true, false}) {
      SCOPED_TRACE(testing::Message() << "length " << length << ", deterministic " << deterministic);
      const AttentionMask mask = whole_pack(test::fan_subtree_ends(3 * length, 3, length));
      Problem p = random_problem(mask, 1, 64);
      p.in.q = p.in.q * 0.1 + 3.87, p.in.k = p.in.k * 0.1 - 3.87;
      // Before it is scaled a score is near 1,000, where float32 is 6e-5 apart: exp passes that on to each weight.
      expect_backends(mask, p, {.scale = 0.125, .deterministic = deterministic}, 10);
    }
  }
}

TEST_F(Gpu, CallsLaidOutOnceGiveTheOperatorsBits) {
  const AttentionMask mask = whole_pack(test::fan_subtree_ends(100, 3, 30));
  const auto [in, grad] = random_problem(mask, 2, 64);
  const auto calls = ops::prepare_attention(mask, in.q.device());
  const AttentionOptions options{.scale = 0.1};
  const AttentionOutput whole = tree_attention(in, mask, options), own = run_calls(in, *calls, options);
  EXPECT_TRUE(at::equal(here(whole.out), here(own.out)) && at::equal(here(whole.lse), here(own.lse)));
  const auto [dq, dk, dv] = tree_attention_backward(grad, in, whole, mask, options);
  const auto [own_dq, own_dk, own_dv] = run_calls_backward(grad, in, whole, *calls, options);
  EXPECT_TRUE(at::equal(here(dq), here(own_dq)) && at::equal(here(dk), here(own_dk)));
  EXPECT_TRUE(at::equal(here(dv), here(own_dv)));
}

TEST_F(Gpu, AdamWStepsAsOnTheCpuWithoutWaiting) {
  const at::Tensor grad = at::randn({1000});
  at::Tensor here_too = at::randn({1000}).to(at::kBFloat16), beyond = there(here_too);
  optim::AdamW host(here_too, 0, 600, {.learning_rate = 1e-3}), device(beyond, 0, 600, {.learning_rate = 1e-3});
  const at::Tensor grad_there = there(grad);
  device.step(grad_there, 1), host.step(grad, 1);
  for (int step = 0; step < 4; ++step) {
    const NoWaiting guard;
    device.step(grad_there, 1), host.step(grad, 1);
  }
  EXPECT_LT(test::relative_error(here(device.master()), host.master()), 1e-6);
}

}  // namespace
}  // namespace fpdist::kernels
