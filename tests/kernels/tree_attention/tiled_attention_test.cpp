// tree_attention by our own kernels as the operators call them: against the CPU twin in float64 and against torch's own
// attention in bfloat16, the same bits twice, any strides, no rows, what they refuse.
#include "kernels/tree_attention/tiled/tiled_attention.hpp"

#include <dlfcn.h>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/merge.hpp"
#include "tests/emulation/aten/operator_counts.hpp"
#include "tests/kernels/gpu_case.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/laws/tolerance.hpp"

namespace fpdist::kernels {
namespace {

/// By the compute capability whose kernels run: the device's own or a lower one.
class TiledAttention : public Gpu, public ::testing::WithParamInterface<int64_t> {
 protected:
  void SetUp() override {
    Gpu::SetUp();
    if (!IsSkipped() && (capability() < 80 || (GetParam() == 90 && capability() != 90)))
      GTEST_SKIP() << "not this GPU's kernels";
  }
  AttentionTiles tiles_of(const AttentionMask& mask, const Problem& p) const {
    return make_tiles(mask, p.in.q.device(), GetParam());
  }
  /// out, lse, dq, dk, dv by our own kernels.
  Results run_tiles(const Problem& p, const AttentionMask& mask, const AttentionOptions& options) const;
};
INSTANTIATE_TEST_SUITE_P(Kernels, TiledAttention, ::testing::Values(90, 80),
                         [](const auto& capability) { return capability.param == 90 ? "hopper" : "portable"; });

Results TiledAttention::run_tiles(const Problem& p, const AttentionMask& mask, const AttentionOptions& options) const {
  const AttentionTiles tiles = tiles_of(mask, p);
  const AttentionOutput own = tiled_attention(p.in, tiles, options);
  const auto [dq, dk, dv] = tiled_attention_backward(p.grad, p.in, own, tiles, options);
  return {own.out, own.lse, dq, dk, dv};
}

/// The same by the CPU twin, in float64.
Results exact_results(const Problem& p, const AttentionMask& mask, const AttentionOptions& options) {
  const auto wide = [](const at::Tensor& x) { return here(x).to(at::kDouble); };
  const AttentionInputs in{wide(p.in.q), wide(p.in.k), wide(p.in.v)};
  const AttentionOutput own = tree_attention(in, mask, options);
  const auto [dq, dk, dv] = tree_attention_backward(wide(p.grad), in, own, mask, options);
  return {own.out, own.lse, dq, dk, dv};
}

/// out, dq, dk, dv of torch's own attention on the CPU in bfloat16, the tree as a mask [T,T].
Results torch_results(const Problem& p, const AttentionMask& mask, const AttentionOptions& options) {
  const at::AutoGradMode with_grad(true);
  const auto as_batch = [&](const at::Tensor& x) {
    return here(x).transpose(0, 1).unsqueeze(0).repeat_interleave(p.in.q.size(1) / x.size(1), 1).requires_grad_();
  };
  const at::Tensor q = as_batch(p.in.q), k = as_batch(p.in.k), v = as_batch(p.in.v);
  const at::Tensor rows = mask.q_row.unsqueeze(1);
  const at::Tensor visible = rows.ge(mask.k_row).logical_and(rows.lt(mask.k_end));
  const at::Tensor out = at::scaled_dot_product_attention(q, k, v, visible, 0.0, false, options.scale);
  out.backward(here(p.grad).transpose(0, 1).unsqueeze(0));
  const auto rows_of = [](const at::Tensor& x, int64_t heads) {  // grouped heads add up
    return x.squeeze(0).transpose(0, 1).to(at::kDouble).unflatten(1, {heads, -1}).sum(2);
  };
  const int64_t heads = p.in.q.size(1), key_heads = p.in.k.size(1);
  return {rows_of(out.detach(), heads), rows_of(q.grad(), heads), rows_of(k.grad(), key_heads),
          rows_of(v.grad(), key_heads)};
}

TEST_P(TiledAttention, IsThatOfFloat64AndNoWorseThanTorchs) {
  const AttentionOptions options{.scale = 0.1};
  for (const auto& [head_size, group] : {std::pair{64, 1}, {64, 7}, {96, 2}, {128, 4}, {256, 2}}) {
    if (GetParam() == 90 && (head_size == 96 || head_size == 256)) continue;  // the portable kernels' everywhere
    SCOPED_TRACE(testing::Message() << "head " << head_size << ", group " << group);
    const AttentionMask mask = whole_pack(test::fan_subtree_ends(150, 3, 70));
    const Problem p = random_problem(mask, group, head_size);
    const Results own = run_tiles(p, mask, options), exact = exact_results(p, mask, options);
    const Results torchs = torch_results(p, mask, options);
    for (const size_t i : {0, 2, 3, 4}) {
      const at::Tensor &theirs = torchs[i == 0 ? 0 : i - 1], error = here(own[i]).to(at::kDouble) - exact[i];
      EXPECT_LT(error.norm().item<double>(), 2 * (theirs - exact[i]).norm().item<double>()) << "result " << i;
      EXPECT_LT(test::relative_error(here(own[i]), exact[i]),
                test::tolerance(i == 0 ? Made::kAttention : Made::kAttentionGradient, at::kBFloat16))
          << "result " << i;
    }
    EXPECT_LT(test::relative_error(here(own[1]), exact[1]), test::tolerance(Made::kSum, at::kBFloat16));
  }
}

TEST_P(TiledAttention, TakesFloat16AndIsNearerToFloat64) {
  const AttentionOptions options{.scale = 0.1};
  const AttentionMask mask = whole_pack(test::fan_subtree_ends(100, 2, 40));
  for (const int64_t head_size : {64, 128}) {
    const Problem p = random_problem(mask, 2, head_size, at::kHalf);
    const Results own = run_tiles(p, mask, options), exact = exact_results(p, mask, options);
    for (const size_t i : {0, 2, 3, 4})  // three bits more than bfloat16
      EXPECT_LT(test::relative_error(here(own[i]), exact[i]),
                test::tolerance(i == 0 ? Made::kAttention : Made::kAttentionGradient, at::kBFloat16) / 8)
          << "result " << i;
    EXPECT_EQ(run_tiles(p, mask, {.rounded = true})[0].scalar_type(), at::kHalf);
  }
}

TEST_P(TiledAttention, LaysLevelsOutOnlyForWhoAsks) {
  const auto counts_of = reinterpret_cast<decltype(&fpdist_emulated_operator_counts)>(
      dlsym(RTLD_DEFAULT, "fpdist_emulated_operator_counts"));
  if (counts_of == nullptr) GTEST_SKIP() << "SKIPPED: a real GPU does not count";
  const auto uploads = [&] {
    emulated::OperatorCounts counts;
    counts_of("copy from the host", &counts);
    return counts.calls;
  };
  const AttentionMask mask = whole_pack(test::fan_subtree_ends(40, 2, 30));
  const Problem p = random_problem(mask, 1, 64);
  const uint64_t before = uploads();
  const AttentionCalls calls(mask, p.in.q.device(), GetParam());
  (void)run_calls(p.in, calls, {});
  EXPECT_EQ(uploads(), before + 1) << "the tiles";
  const AttentionInputs wide{p.in.q.to(at::kFloat), p.in.k.to(at::kFloat), p.in.v.to(at::kFloat)};
  EXPECT_LT(test::relative_error(here(run_calls(wide, calls, {}).out), here(run_calls(p.in, calls, {}).out)),
            test::tolerance(Made::kAttention, at::kBFloat16));
  EXPECT_EQ(uploads(), before + 3) << "float32 goes by levels: their rows and their offsets";
}

TEST_P(TiledAttention, GivesTheSameBitsTwiceAndWaitsForNothing) {
  const AttentionMask mask = whole_pack(test::fan_subtree_ends(200, 2, 60));
  const Problem p = random_problem(mask, 2, 64);
  const Results first = run_tiles(p, mask, {.scale = 0.1});
  Results second;
  expect_no_waiting("tiled_attention", [&] { second = run_tiles(p, mask, {.scale = 0.1}); });
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(here(first[i]), here(second[i]))) << "result " << i;
}

TEST_P(TiledAttention, TakesEveryStrideAndNoRows) {
  const AttentionMask mask = whole_pack(test::fan_subtree_ends(40, 2, 30));
  Problem p = random_problem(mask, 1, 64);
  const Results dense = run_tiles(p, mask, {});
  const auto wide = [](const at::Tensor& x, int64_t more) {  // rows that begin 2 * more bytes apart from dense ones
    const at::Tensor all = at::zeros({x.size(0), x.size(1) * x.size(2) + more}, x.options());
    const at::Tensor part = all.narrow(1, 0, x.size(1) * x.size(2)).unflatten(1, {x.size(1), x.size(2)});
    part.copy_(x);
    return part;
  };
  for (const int64_t more : {64, 8, 4}) {  // what TMA takes, what cp.async takes, and what is copied first
    const Problem apart{{wide(p.in.q, more), wide(p.in.k, more), wide(p.in.v, more)}, wide(p.grad, more)};
    const Results own = run_tiles(apart, mask, {});
    for (size_t i = 0; i < own.size(); ++i) EXPECT_TRUE(at::equal(here(own[i]), here(dense[i]))) << "result " << i;
  }
  const at::Tensor none = at::empty({0}, at::kInt);
  const AttentionMask no_keys{mask.q_row, none, none};
  p.in.k = p.in.k.narrow(0, 0, 0), p.in.v = p.in.v.narrow(0, 0, 0);
  const Results empty = run_tiles(p, no_keys, {});
  EXPECT_TRUE(here(empty[0]).eq(0).all().item<bool>() && here(empty[1]).isneginf().all().item<bool>());
  EXPECT_TRUE(here(empty[2]).eq(0).all().item<bool>());
}

TEST_P(TiledAttention, PartsOfTheKeysAddUpToAllOfThem) {
  const AttentionMask mask = whole_pack(test::fan_subtree_ends(130, 2, 60));
  const Problem p = random_problem(mask, 2, 64);
  const AttentionOptions options{.scale = 0.1};
  const Results whole = run_tiles(p, mask, options);
  // As a ring of two ranks has them: every other run of 32 keys, and the queries of all.
  const at::Tensor half = mask.k_row.div(32, "floor").remainder(2);
  std::vector<std::pair<AttentionInputs, AttentionTiles>> parts;
  for (const int64_t which : {0, 1}) {
    const at::Tensor index = half.eq(which).nonzero().squeeze(1);
    const auto rows = [&](const at::Tensor& x) { return x.index_select(0, index.to(x.device())); };
    parts.push_back(
        {{p.in.q, rows(p.in.k), rows(p.in.v)}, tiles_of({mask.q_row, rows(mask.k_row), rows(mask.k_end)}, p)});
  }
  AttentionOutput merged = tiled_attention(parts[0].first, parts[0].second, options);
  merge_attention(merged, tiled_attention(parts[1].first, parts[1].second, options));
  const auto near = [](const at::Tensor& own, const at::Tensor& right, Made made) {
    EXPECT_LT(test::relative_error(here(own), here(right)), test::tolerance(made, at::kBFloat16));
  };
  near(merged.out, whole[0], Made::kAttention), near(merged.lse, whole[1], Made::kSum);
  at::Tensor dq = at::zeros_like(whole[2]);
  for (const auto& [in, tiles] : parts) dq += tiled_attention_backward(p.grad, in, merged, tiles, options).q;
  near(dq, whole[2], Made::kAttentionGradient);
}

TEST_P(TiledAttention, RoundsItsResultsWhereAsked) {
  const AttentionMask mask = whole_pack(test::fan_subtree_ends(70, 2, 50));
  const Problem p = random_problem(mask, 2, 128);
  const Results wide = run_tiles(p, mask, {.scale = 0.1});
  // Its out is what the rounded backward is given, so gradients differ by more than their own rounding.
  const Results rounded = run_tiles(p, mask, {.scale = 0.1, .rounded = true});
  EXPECT_TRUE(at::equal(here(rounded[0]), here(wide[0]).to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(here(rounded[1]), here(wide[1])));
  for (const size_t i : {2, 3, 4}) {
    EXPECT_EQ(rounded[i].scalar_type(), at::kBFloat16);
    EXPECT_LT(test::relative_error(here(rounded[i]), here(wide[i])),
              test::tolerance(Made::kAttentionGradient, at::kBFloat16));
  }
}

TEST_P(TiledAttention, RefusesWhatItHasNoKernelFor) {
  const AttentionMask mask = whole_pack(std::vector<int32_t>(10, 10));
  const Problem p = random_problem(mask, 1, 32);
  EXPECT_THROW(run_tiles(p, mask, {}), ShapeError);
  const Problem fine = random_problem(mask, 1, 64);
  EXPECT_THROW(run_tiles(fine, mask, {.scale = -1}), ShapeError);
  const AttentionTiles old = make_tiles(mask, fine.in.q.device(), 75);
  EXPECT_THROW(tiled_attention(fine.in, old, {}), ShapeError);
  const AttentionTiles other = tiles_of(whole_pack(std::vector<int32_t>(200, 200)), fine);
  EXPECT_THROW(tiled_attention(fine.in, other, {}), ShapeError);
}

}  // namespace
}  // namespace fpdist::kernels
