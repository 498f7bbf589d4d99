// The levels and the calls that a GPU runs, tested on the CPU: same rows, same mask, same results as the twin.
#include "kernels/tree_attention/mask/attention_calls.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/library/varlen.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "src/ops/partial_attention.hpp"
#include "tests/support/laws/pieces_of_mask.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist::kernels {
namespace {

std::vector<int32_t> subset(Rng& rng, int32_t rows, double keep) {
  std::vector<int32_t> chosen;
  for (int32_t row = 0; row < rows; ++row)
    if (rng.uniform() < keep) chosen.push_back(row);
  return chosen;
}

std::vector<int32_t> ends_of(const std::vector<int32_t>& end, const std::vector<int32_t>& rows) {
  std::vector<int32_t> own;
  for (const int32_t row : rows) own.push_back(end[static_cast<size_t>(row)]);
  return own;
}

/// Some rows, all rows, or runs of them as ring rounds and slices have.
std::vector<int32_t> random_rows(Rng& rng, int32_t rows) {
  switch (rng.below(4)) {
    case 0:
      return subset(rng, rows, 1.1);
    case 1:
      return subset(rng, rows, 0.6);
    case 2:
      return subset(rng, rows, 0.1);
    default: {
      std::vector<int32_t> runs;
      for (int32_t begin = 0; begin < rows; begin += 8)
        if (rng.below(2) == 0)
          for (int32_t row = begin; row < std::min(rows, begin + 8); ++row) runs.push_back(row);
      return runs;
    }
  }
}

TEST(TreeAttentionPieces, CoverTheMaskExactlyOnce) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed);
    const auto rows = static_cast<int32_t>(1 + rng.below(40));
    const auto end = test::random_subtree_ends(rng, rows, 6);
    const auto q_row = subset(rng, rows, 0.7), k_row = subset(rng, rows, 0.7);
    test::expect_pieces_cover_mask(q_row, k_row, ends_of(end, k_row));
  }
}

TEST(Levels, CoverTheMaskOnceWithoutEmptySegmentsOrSharedRows) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed);
    const auto rows = static_cast<int32_t>(1 + rng.below(50));
    const auto end = test::random_subtree_ends(rng, rows, seed % 3 == 0 ? 1 : 7);
    const auto q_row = random_rows(rng, rows), k_row = random_rows(rng, rows), k_end = ends_of(end, k_row);
    at::Tensor seen = at::zeros({static_cast<int64_t>(q_row.size()), static_cast<int64_t>(k_row.size())}, at::kInt);
    for (const Level& level : find_levels(q_row, k_row, k_end)) {
      ASSERT_FALSE(level.piece.empty());
      int64_t q_done = 0, k_done = 0;
      for (const Piece& piece : level.piece) {
        EXPECT_EQ(piece.is_causal, level.is_causal);
        EXPECT_LT(piece.q_begin, piece.q_end);
        EXPECT_LT(piece.k_begin, piece.k_end);
        EXPECT_LE(q_done, piece.q_begin);
        EXPECT_LE(k_done, piece.k_begin);
        q_done = piece.q_end, k_done = piece.k_end;
        if (piece.is_causal) {
          EXPECT_EQ(piece.q_end - piece.q_begin, piece.k_end - piece.k_begin);
        }
        const int64_t height = piece.q_end - piece.q_begin, width = piece.k_end - piece.k_begin;
        const at::Tensor all = at::ones({height, width}, at::kInt);
        seen.slice(0, piece.q_begin, piece.q_end).slice(1, piece.k_begin, piece.k_end) +=
            level.is_causal ? all.tril() : all;
      }
    }
    const at::Tensor row = test::int_tensor(q_row).unsqueeze(1), key = test::int_tensor(k_row).unsqueeze(0);
    const at::Tensor visible = key.le(row).logical_and(row.lt(test::int_tensor(k_end).unsqueeze(0)));
    EXPECT_TRUE(at::equal(seen, visible.to(at::kInt)));
  }
}

TEST(Levels, AWholePackTakesOneCausalCallAndOneFullCallPerLevelOfItsTrees) {
  const auto levels_of = [](const std::vector<int32_t>& end) {
    std::vector<int32_t> row(end.size());
    for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<int32_t>(i);
    return find_levels(row, row, end);
  };
  const auto fan = levels_of(test::fan_subtree_ends(100, 8, 20));  // a prompt and its answers
  ASSERT_EQ(fan.size(), 2U);
  EXPECT_TRUE(fan[0].is_causal);
  EXPECT_EQ(fan[0].piece.size(), 9U);
  EXPECT_EQ(fan[1].piece, (std::vector<Piece>{{100, 260, 0, 100, false}}));
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed);
    const auto end = test::random_subtree_ends(rng, static_cast<int32_t>(1 + rng.below(200)), seed % 2 ? 1 : 30);
    const auto nodes = test::nodes_of(end);
    size_t deepest = 0;
    std::vector<size_t> level(nodes.size());
    for (size_t i = 0; i < nodes.size(); ++i) {
      level[i] = nodes[i].parent < 0 ? 0 : level[static_cast<size_t>(nodes[i].parent)] + 1;
      deepest = std::max(deepest, level[i]);
    }
    EXPECT_LE(levels_of(end).size(), deepest + 1);
  }
}

TEST(Levels, RowsWithGapsTakeOneCausalCallAndInterleavedRunsOneCallPerHalving) {
  std::vector<int32_t> mine, theirs;  // every other chunk of 8 rows of one long node
  for (int32_t row = 0; row < 256; ++row) (row / 8 % 2 ? mine : theirs).push_back(row);
  const std::vector<int32_t> end(128, 256);
  const auto local = find_levels(mine, mine, end);
  ASSERT_EQ(local.size(), 1U);
  EXPECT_EQ(local[0].piece, (std::vector<Piece>{{0, 128, 0, 128, true}}));
  EXPECT_EQ(find_levels(mine, theirs, end).size(), 5U);  // 16 runs each, 32 items
}

struct Problem {
  AttentionInputs in;
  AttentionMask mask;
  at::Tensor grad;
};

Problem random_problem(uint64_t seed, at::ScalarType dtype) {
  at::manual_seed(seed);
  Rng rng(seed, 1);
  const auto rows = static_cast<int32_t>(1 + rng.below(120));
  const auto end = test::random_subtree_ends(rng, rows, seed % 3 == 0 ? 2 : 40);
  const auto q_row = random_rows(rng, rows), k_row = random_rows(rng, rows);
  const auto tq = static_cast<int64_t>(q_row.size()), tk = static_cast<int64_t>(k_row.size());
  const auto random = [&](int64_t count, int64_t heads) { return at::randn({count, heads, 8}, at::kDouble).to(dtype); };
  const int64_t group = seed % 2 ? 3 : 1;
  const AttentionInputs in{random(tq, 2 * group), random(tk, 2), random(tk, 2)};
  return {in,
          {test::int_tensor(q_row), test::int_tensor(k_row), test::int_tensor(ends_of(end, k_row))},
          random(tq, 2 * group)};
}

constexpr AttentionOptions kOptions{.scale = 0.3};

AttentionCalls calls_of(const Problem& p) { return {p.mask, at::kCPU, 0}; }

void expect_close(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  EXPECT_EQ(a.scalar_type(), b.scalar_type());
  EXPECT_LT(test::relative_error(a, b), tolerance);
}

TEST(RunCalls, EqualsTheTwinForwardAndBackwardOnAnyRows) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Problem p = random_problem(seed, at::kDouble);
    const AttentionCalls calls = calls_of(p);
    const auto [out, lse] = tree_attention(p.in, p.mask, kOptions);
    const auto [own_out, own_lse] = run_calls(p.in, calls, kOptions);
    expect_close(own_out, out, 1e-13);
    EXPECT_TRUE(at::equal(at::isneginf(own_lse), at::isneginf(lse)));
    expect_close(at::exp(own_lse), at::exp(lse), 1e-13);
    // Merged with other keys out and lse are not those of this call alone; backward must not mind.
    const AttentionOutput merged{out * 0.7, lse + 0.5};
    const auto [dq, dk, dv] = tree_attention_backward(p.grad, p.in, merged, p.mask, kOptions);
    const auto [own_dq, own_dk, own_dv] = run_calls_backward(p.grad, p.in, merged, calls, kOptions);
    expect_close(own_dq, dq, 1e-13);
    expect_close(own_dk, dk, 1e-13);
    expect_close(own_dv, dv, 1e-13);
  }
}

TEST(RunCalls, LowerDtypesAddUpInFloat32AndRepeatBitForBit) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Problem p = random_problem(5, dtype);
    const AttentionCalls calls = calls_of(p);
    const AttentionOutput twin = tree_attention(p.in, p.mask, kOptions), own = run_calls(p.in, calls, kOptions);
    expect_close(own.out, twin.out, 1e-5);
    EXPECT_TRUE(at::equal(own.out, run_calls(p.in, calls, kOptions).out));
    const auto [dq, dk, dv] = run_calls_backward(p.grad, p.in, own, calls, kOptions);
    const auto [eq, ek, ev] = tree_attention_backward(p.grad, p.in, twin, p.mask, kOptions);
    expect_close(dq, eq, 1e-5);
    expect_close(dk, ek, 1e-5);
    expect_close(dv, ev, 1e-5);
  }
}

TEST(RunCalls, QueriesInBlocksGiveWhatAllAtOnceGive) {
  at::manual_seed(2);
  const at::Tensor q = at::randn({60, 4, 8}, at::kDouble), k = at::randn({60, 2, 8}, at::kDouble);
  const at::Tensor row = at::arange(60, at::kInt), end = test::int_tensor(test::fan_subtree_ends(20, 2, 20));
  const AttentionCalls calls({row, row, end}, at::kCPU, 0);
  for (const VarlenCall& call : calls.list()) {
    const AttentionInputs in{call.q.select(q), call.k.select(k), call.k.select(k)};
    const AttentionOutput all = math_forward(in, call, kOptions);
    const auto [dq, dk, dv] = math_backward(in.q, in, all, call, kOptions);
    for (const int64_t pairs : {1, 20, 70, 333}) {
      const AttentionOutput part = math_forward(in, call, kOptions, pairs * 4 * 8);
      const auto [pq, pk, pv] = math_backward(in.q, in, all, call, kOptions, pairs * 4 * 8);
      expect_close(part.out, all.out, 1e-14);
      expect_close(part.lse, all.lse, 1e-14);
      expect_close(pq, dq, 1e-14);
      expect_close(pk, dk, 1e-13);
      expect_close(pv, dv, 1e-13);
    }
  }
}

TEST(AttentionCalls, RowsAloneInTheirSetsAreRunsAndTheOthersAreGathered) {
  const at::Tensor row = at::arange(260, at::kInt), end = test::int_tensor(test::fan_subtree_ends(100, 8, 20));
  const AttentionCalls calls({row, row, end}, at::kCPU, 0);
  ASSERT_EQ(calls.list().size(), 2U);
  for (const VarlenCall& call : calls.list()) EXPECT_FALSE(call.q.index.defined() || call.k.index.defined());
  EXPECT_TRUE(at::equal(calls.list()[1].q.offset, at::tensor({0, 160}, at::kInt)));
  EXPECT_EQ(calls.list()[0].q.longest, 100);
  EXPECT_EQ(calls.list()[0].q.shortest, 20);
  const at::Tensor two = at::cat({end, end + 260}), both = at::arange(520, at::kInt);
  const AttentionCalls trees({both, both, two}, at::kCPU, 0);
  ASSERT_EQ(trees.list().size(), 2U);
  EXPECT_TRUE(trees.list()[1].q.index.defined());
  EXPECT_EQ(trees.list()[1].q.count, 320);
}

TEST(AttentionCalls, GoThroughTheDifferentiableOperation) {
  const Problem p = random_problem(7, at::kDouble);
  const auto leaf = [](const at::Tensor& x) { return x.detach().clone().requires_grad_(true); };
  const auto calls = std::make_shared<const AttentionCalls>(calls_of(p));
  at::Tensor grads[2][3];
  for (const int given : {0, 1}) {
    const AttentionInputs in{leaf(p.in.q), leaf(p.in.k), leaf(p.in.v)};
    ops::tree_attention(in, p.mask, kOptions, given ? calls : ops::AttentionCallsPtr()).out.backward(p.grad);
    grads[given][0] = in.q.grad(), grads[given][1] = in.k.grad(), grads[given][2] = in.v.grad();
  }
  for (int i = 0; i < 3; ++i) expect_close(grads[1][i], grads[0][i], 1e-13);
  const at::Tensor out = ops::partial_attention(p.in, p.mask, kOptions).out;
  expect_close(ops::partial_attention(p.in, p.mask, kOptions, calls).out, out, 1e-13);
  EXPECT_EQ(ops::prepare_attention(p.mask, at::kCPU), nullptr);
  EXPECT_EQ(ops::prepare_attention(p.mask, at::kMeta), nullptr);
}

TEST(AttentionCalls, RefuseWhatTheyAreNotFor) {
  const Problem p = random_problem(5, at::kDouble);
  const AttentionCalls calls = calls_of(p);
  const auto [q, k, v] = p.in;
  EXPECT_THROW(run_calls({q.slice(0, 1), k, v}, calls, {}), ShapeError);
  EXPECT_THROW(run_calls({q.to(at::kMeta), k.to(at::kMeta), v.to(at::kMeta)}, calls, {}), ShapeError);
  const auto [q_row, k_row, k_end] = p.mask;
  EXPECT_THROW(AttentionCalls({q_row.to(at::kLong), k_row, k_end}, at::kCPU, 0), ShapeError);
  EXPECT_THROW(AttentionCalls({q_row.flip(0), k_row, k_end}, at::kCPU, 0), ShapeError);
  EXPECT_THROW(AttentionCalls({q_row, k_row, k_end.slice(0, 1)}, at::kCPU, 0), ShapeError);
  EXPECT_THROW(AttentionCalls({q_row, k_row.to(at::kMeta), k_end}, at::kCPU, 0), ShapeError);
}

BackendQuestion hopper() {
  return {.dtype = at::kBFloat16,
          .head_size = 128,
          .capability = 90,
          .deterministic = false,
          .segments = 1,
          .shortest_q = 1000,
          .longest_q = 1000,
          .longest_k = 2000};
}

Backend changed(const std::function<void(BackendQuestion&)>& change) {
  BackendQuestion question = hopper();
  change(question);
  return choose_backend(question);
}

TEST(ChooseBackend, TakesCudnnOnlyWhereNoKnownFaultApplies) {
  EXPECT_EQ(choose_backend(hopper()), Backend::kCudnn);
  EXPECT_EQ(changed([](auto& q) { q.capability = 100; }), Backend::kCudnn);
  EXPECT_EQ(changed([](auto& q) { q.capability = 89; }), Backend::kFlash);
  EXPECT_EQ(changed([](auto& q) { q.deterministic = true; }), Backend::kFlash);
  EXPECT_EQ(changed([](auto& q) { q.segments = 2; }), Backend::kFlash);
  EXPECT_EQ(changed([](auto& q) { q.shortest_q = q.longest_q = 1; }), Backend::kFlash);
  EXPECT_EQ(changed([](auto& q) { q.longest_q = 1088; }), Backend::kFlash);
  EXPECT_EQ(changed([](auto& q) { q.longest_k = 192; }), Backend::kFlash);
  EXPECT_EQ(changed([](auto& q) { q.head_size = 192; }), Backend::kFlash);
}

TEST(ChooseBackend, TakesPlainProductsWhereFlashAttentionCannotGoOrWouldRound) {
  EXPECT_EQ(changed([](auto& q) { q.dtype = at::kFloat; }), Backend::kMath);
  EXPECT_EQ(changed([](auto& q) { q.dtype = at::kDouble; }), Backend::kMath);
  EXPECT_EQ(changed([](auto& q) { q.capability = 75; }), Backend::kMath);
  EXPECT_EQ(changed([](auto& q) { q.capability = 0; }), Backend::kMath);
  EXPECT_EQ(changed([](auto& q) { q.head_size = 100; }), Backend::kMath);
  EXPECT_EQ(changed([](auto& q) { q.head_size = 264; }), Backend::kMath);
}

}  // namespace
}  // namespace fpdist::kernels
