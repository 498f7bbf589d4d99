// How torch's fused attentions are called, with stand-ins for them on the CPU: they keep the operators' conventions
// (packed rows and offsets, lse as [heads, rows] or [1, heads, rows, 1], results in the inputs' dtype) and check what
// they are given. What is tested is our side of the call; the operators themselves need a GPU.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/library/varlen.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist::kernels {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

int flash_calls = 0, cudnn_calls = 0;

VarlenCall call_of(const at::Tensor& q_offset, const at::Tensor& k_offset, bool is_causal) {
  VarlenCall call{.level = {is_causal, {}}, .q = {}, .k = {}};
  EXPECT_EQ(q_offset.scalar_type(), at::kInt);
  EXPECT_EQ(k_offset.scalar_type(), at::kInt);
  const auto at = [](const at::Tensor& x, int64_t i) { return static_cast<int64_t>(x[i].item<int32_t>()); };
  for (int64_t i = 0; i + 1 < q_offset.numel(); ++i)
    call.level.piece.push_back({at(q_offset, i), at(q_offset, i + 1), at(k_offset, i), at(k_offset, i + 1), is_causal});
  return call;
}

void expect_lengths(const at::Tensor& offset, const at::Tensor& rows, int64_t longest) {
  EXPECT_EQ(offset[-1].item<int32_t>(), rows.size(0));
  EXPECT_EQ(at::diff(offset).max().item<int32_t>(), longest);
  EXPECT_GT(at::diff(offset).min().item<int32_t>(), 0) << "an empty segment hangs the real one";
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> flash_forward_stand_in(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptionalTensor& q_offset,
    const OptionalTensor& k_offset, int64_t longest_q, int64_t longest_k, double dropout, bool is_causal, bool,
    std::optional<double> scale, std::optional<int64_t>, std::optional<int64_t>, const OptionalTensor&,
    const OptionalTensor&) {
  ++flash_calls;
  EXPECT_EQ(dropout, 0.0);
  for (const at::Tensor* x : {&q, &k, &v}) EXPECT_TRUE(x->scalar_type() == at::kBFloat16 && x->is_contiguous());
  expect_lengths(*q_offset, q, longest_q);
  expect_lengths(*k_offset, k, longest_k);
  const auto [out, lse] = math_forward({q, k, v}, call_of(*q_offset, *k_offset, is_causal), {.scale = *scale});
  return {out.to(q.scalar_type()), lse.t().contiguous(), q.new_empty({0}), q.new_empty({0}), q.new_empty({0})};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> flash_backward_stand_in(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, const at::Tensor& q_offset, const at::Tensor& k_offset, int64_t longest_q, int64_t longest_k,
    double, bool is_causal, const at::Tensor& random, const at::Tensor& unused, std::optional<double> scale,
    std::optional<int64_t>, std::optional<int64_t>) {
  ++flash_calls;
  EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
  EXPECT_TRUE(random.defined() && unused.defined());
  for (const at::Tensor* x : {&grad_out, &out})
    EXPECT_TRUE(x->scalar_type() == at::kBFloat16 && x->is_contiguous() && x->sizes() == q.sizes());
  EXPECT_EQ(lse.sizes(), (at::IntArrayRef{q.size(1), q.size(0)}));
  EXPECT_TRUE(lse.is_contiguous() && lse.scalar_type() == at::kFloat);
  expect_lengths(q_offset, q, longest_q);
  expect_lengths(k_offset, k, longest_k);
  const auto [dq, dk, dv] = math_backward(grad_out, {q, k, v}, {out.to(at::kFloat), lse.t()},
                                          call_of(q_offset, k_offset, is_causal), {.scale = *scale});
  return {dq.to(q.scalar_type()), dk.to(q.scalar_type()), dv.to(q.scalar_type())};
}

at::Tensor rows_of(const at::Tensor& batch) { return batch.squeeze(0).transpose(0, 1); }
at::Tensor batch_of(const at::Tensor& rows) { return rows.transpose(0, 1).unsqueeze(0); }

VarlenCall whole_call(const at::Tensor& q, const at::Tensor& k, bool is_causal) {
  return {.level = {is_causal, {{0, q.size(2), 0, k.size(2), is_causal}}}, .q = {}, .k = {}};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor, at::Tensor, at::Tensor>
cudnn_forward_stand_in(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptionalTensor& bias,
                       const OptionalTensor& q_offset, const OptionalTensor& k_offset, int64_t longest_q,
                       int64_t longest_k, bool wants_lse, double, bool is_causal, bool, std::optional<double> scale) {
  ++cudnn_calls;
  EXPECT_TRUE(wants_lse && !bias && !q_offset && !k_offset);
  EXPECT_EQ(std::tuple(longest_q, longest_k), std::tuple(q.size(2), k.size(2)));
  const auto [out, lse] =
      math_forward({rows_of(q), rows_of(k), rows_of(v)}, whole_call(q, k, is_causal), {.scale = *scale});
  const at::Tensor none = q.new_empty({0});
  return {batch_of(out.to(q.scalar_type())),
          lse.t().contiguous().view({1, q.size(1), q.size(2), 1}),
          none,
          none,
          longest_q,
          longest_k,
          none,
          none,
          none};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> cudnn_backward_stand_in(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, const at::Tensor&, const at::Tensor&, const at::Tensor& bias, const at::Tensor& q_offset,
    const at::Tensor& k_offset, int64_t longest_q, int64_t longest_k, double, bool is_causal,
    std::optional<double> scale) {
  ++cudnn_calls;
  EXPECT_FALSE(bias.defined() || q_offset.defined() || k_offset.defined());
  EXPECT_EQ(std::tuple(longest_q, longest_k), std::tuple(q.size(2), k.size(2)));
  EXPECT_EQ(lse.sizes(), (at::IntArrayRef{1, q.size(1), q.size(2), 1}));
  EXPECT_TRUE(grad_out.scalar_type() == at::kBFloat16 && out.scalar_type() == at::kBFloat16);
  const auto [dq, dk, dv] = math_backward(rows_of(grad_out), {rows_of(q), rows_of(k), rows_of(v)},
                                          {rows_of(out).to(at::kFloat), lse.view({q.size(1), q.size(2)}).t()},
                                          whole_call(q, k, is_causal), {.scale = *scale});
  const auto back = [&](const at::Tensor& x) { return batch_of(x.to(q.scalar_type())); };
  return {back(dq), back(dk), back(dv)};
}

struct Sizes {
  int64_t group, capability;
  bool deterministic;
};

/// The calls on the fused operators against the twin; bfloat16 parts are rounded once on the way out, so 2^-8 of the
/// largest, twice where a part is merged.
void expect_twin(const std::vector<int32_t>& end, const Sizes& sizes) {
  at::manual_seed(3);
  const auto rows = static_cast<int64_t>(end.size());
  const auto random = [&](int64_t heads) { return at::randn({rows, heads, 16}).to(at::kBFloat16); };
  const AttentionInputs in{random(2 * sizes.group), random(2), random(2)};
  const at::Tensor grad = random(2 * sizes.group), row = at::arange(rows, at::kInt);
  const AttentionMask mask{row, row, test::int_tensor(end)};
  const AttentionOptions options{.scale = 0.2, .deterministic = sizes.deterministic};
  const AttentionCalls calls(mask, at::kCPU, sizes.capability);
  const AttentionOutput twin = tree_attention(in, mask, options), own = run_calls(in, calls, options);
  EXPECT_EQ(own.out.scalar_type(), at::kFloat);
  EXPECT_LT(test::relative_error(own.out, twin.out), 1e-2);
  EXPECT_LT(test::relative_error(own.lse, twin.lse), 1e-5);
  const auto [dq, dk, dv] = tree_attention_backward(grad, in, twin, mask, options);
  const auto [pq, pk, pv] = run_calls_backward(grad, in, own, calls, options);
  EXPECT_LT(test::relative_error(pq, dq), 2e-2);
  EXPECT_LT(test::relative_error(pk, dk), 2e-2);
  EXPECT_LT(test::relative_error(pv, dv), 2e-2);
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
}

TEST(FusedAttention, FlashTakesEverySegmentOfAPackAndGivesTheTwinsResults) {
  flash_calls = cudnn_calls = 0;
  for (const int64_t group : {1, 3}) expect_twin(test::fan_subtree_ends(20, 3, 10), {group, 90, true});
  EXPECT_EQ(flash_calls, 8);  // causal and full, forward and backward, twice
  for (uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed);
    expect_twin(test::random_subtree_ends(rng, 80, seed % 2 ? 20 : 1), {2, 80, true});
  }
  EXPECT_EQ(cudnn_calls, 0);
}

TEST(FusedAttention, CudnnTakesTheCallOfOneSegmentWhereTheOptionsAllowIt) {
  flash_calls = cudnn_calls = 0;
  const at::Tensor row = at::arange(50, at::kInt), q = at::randn({50, 2, 16}).to(at::kBFloat16);
  const AttentionCalls calls({row, row, test::int_tensor(test::fan_subtree_ends(20, 3, 10))}, at::kCPU, 90);
  EXPECT_EQ(choose_backend(question_of(q, calls.list()[0], 90, /*deterministic=*/false)), Backend::kFlash);
  EXPECT_EQ(choose_backend(question_of(q, calls.list()[1], 90, /*deterministic=*/false)), Backend::kCudnn);
  expect_twin(std::vector<int32_t>(40, 40), {3, 90, false});  // one node: the causal call has one segment
  EXPECT_EQ(cudnn_calls, 2);
  EXPECT_EQ(flash_calls, 0);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(aten, CPU, m) {
  m.impl("_flash_attention_forward", fpdist::kernels::flash_forward_stand_in);
  m.impl("_flash_attention_backward", fpdist::kernels::flash_backward_stand_in);
  m.impl("_cudnn_attention_forward", fpdist::kernels::cudnn_forward_stand_in);
  m.impl("_cudnn_attention_backward", fpdist::kernels::cudnn_backward_stand_in);
}
