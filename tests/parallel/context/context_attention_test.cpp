// Attention over keys on several ranks against attention on one.

#include "src/parallel/context/context_attention.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist::parallel {
namespace {

constexpr int64_t kQueryHeads = 8, kKeyHeads = 4, kHeadDim = 6;
constexpr ops::AttentionOptions kOptions{.scale = 0.4};

struct Problem {
  std::vector<int32_t> subtree_end;
  std::vector<prefix::Node> node;
  at::Tensor q, k, v, grad;    // whole pack
  at::Tensor out, dq, dk, dv;  // on one rank
};

Problem make_problem(std::vector<int32_t> subtree_end, at::ScalarType dtype) {
  Problem problem;
  problem.subtree_end = std::move(subtree_end);
  problem.node = test::nodes_of(problem.subtree_end);
  const auto rows = static_cast<int64_t>(problem.subtree_end.size());
  const auto draw = [&](int64_t heads) { return at::randn({rows, heads, kHeadDim}, at::kDouble).to(dtype); };
  problem.q = draw(kQueryHeads), problem.k = draw(kKeyHeads), problem.v = draw(kKeyHeads);
  problem.grad = draw(kQueryHeads);
  const at::Tensor row = at::arange(rows, at::kInt), end = test::int_tensor(problem.subtree_end);
  const auto leaf = [](const at::Tensor& x) { return x.clone().set_requires_grad(true); };
  const at::Tensor q = leaf(problem.q), k = leaf(problem.k), v = leaf(problem.v);
  problem.out = ops::tree_attention({q, k, v}, {row, row, end}, kOptions).out;
  problem.out.backward(problem.grad);
  problem.dq = q.grad(), problem.dk = k.grad(), problem.dv = v.grad();
  return problem;
}

at::Tensor rows_of(const std::vector<plan::RowRange>& ranges) {
  std::vector<int64_t> rows;
  for (const plan::RowRange& range : ranges)
    for (int32_t row = range.begin; row < range.end; ++row) rows.push_back(row);
  return at::tensor(rows, at::kLong);
}

/// Runs `problem` on `ranks` thread ranks; every rank's results within `tolerance` of the single rank's, and traffic as
/// predicted. Returns rank 0's bits.
std::vector<at::Tensor> run_split(const Problem& problem, int ranks, plan::ParallelOptions options, double tolerance,
                                  comm::CommOptions comm_options = {.timeout = std::chrono::seconds(40)}) {
  options.cp = ranks;
  const plan::CpPlan plan =
      plan::plan_context(problem.node, options, {.key_bytes = 2, .head_bytes = 6, .max_ulysses = kKeyHeads});
  const plan::CpTraffic traffic =
      plan::predict_traffic(plan, {.query = kQueryHeads, .key = kKeyHeads, .dim = kHeadDim});
  std::vector<std::vector<at::Tensor>> bits(static_cast<size_t>(ranks));
  comm::run_threads(
      ranks,
      [&](comm::World& world) {
        const auto rank = static_cast<size_t>(world.rank());
        const auto keys = world.communicator().split("cp", 0, world.rank());
        const auto gradients = world.communicator().split("cp_gradient", 0, world.rank());
        const auto exchange =
            std::make_shared<const ContextExchange>(std::span(&plan, 1), problem.subtree_end, *keys, *gradients);
        const at::Tensor rows = rows_of(plan.rank_rows[rank]);
        const auto own = [&](const at::Tensor& x) { return x.index_select(0, rows); };
        const auto leaf = [&](const at::Tensor& x) { return own(x).set_requires_grad(true); };
        const at::Tensor q = leaf(problem.q), k = leaf(problem.k), v = leaf(problem.v);
        const at::Tensor out = context_attention({q, k, v}, exchange, kOptions);
        const int64_t item = static_cast<int64_t>(q.element_size());
        EXPECT_EQ(keys->traffic().bytes, traffic.forward_sent(rank) * item);
        out.backward(own(problem.grad));
        const auto expect_same = [&](const at::Tensor& got, const at::Tensor& wanted, const char* what) {
          EXPECT_LT(test::relative_error(got, own(wanted)), tolerance) << what << " on rank " << rank;
        };
        expect_same(out, problem.out, "out");
        expect_same(q.grad(), problem.dq, "dq");
        expect_same(k.grad(), problem.dk, "dk");
        expect_same(v.grad(), problem.dv, "dv");
        bits[rank] = {out.detach(), q.grad(), k.grad(), v.grad()};
        if (q.scalar_type() == at::kDouble) {  // gradients travel in the accumulation dtype
          EXPECT_EQ(keys->traffic().bytes + gradients->traffic().bytes,
                    (traffic.forward_sent(rank) + traffic.backward_sent(rank)) * item);
        }
      },
      comm_options);
  std::vector<at::Tensor> all;
  for (const auto& of_rank : bits) all.insert(all.end(), of_rank.begin(), of_rank.end());
  return all;
}

plan::ParallelOptions options_for(plan::CpMethod method, int ulysses, int64_t chunk) {
  plan::ParallelOptions options;
  options.cp_method = method, options.ulysses = ulysses, options.cp_chunk = chunk;
  return options;
}

TEST(ContextAttention, AnyPlanGivesWhatOneRankGives) {
  Rng rng(17, 1);
  at::manual_seed(17);
  for (int round = 0; round < 6; ++round) {
    const auto rows = static_cast<int32_t>(1 + rng.below(round < 2 ? 6 : 90));
    const Problem problem = make_problem(test::random_subtree_ends(rng, rows, 1 + round * 4), at::kDouble);
    for (const int ranks : {1, 2, 3, 4, 8})
      for (const plan::CpMethod method : {plan::CpMethod::kAuto, plan::CpMethod::kRing, plan::CpMethod::kGroupCast})
        for (const int ulysses : {1, 2, 4}) {
          if (ranks % ulysses != 0) continue;
          SCOPED_TRACE(text("seed 17, round ", round, ", ", rows, " rows, ", ranks, " ranks, ", plan::name_of(method),
                            ", ulysses ", ulysses));
          run_split(problem, ranks, options_for(method, ulysses, 1 + round), 1e-12);
        }
  }
}

TEST(ContextAttention, ALongPrefixWithLeavesIsSplitExactly) {
  at::manual_seed(3);
  const Problem problem = make_problem(test::fan_subtree_ends(200, 5, 30), at::kDouble);
  for (const plan::CpMethod method :
       {plan::CpMethod::kAuto, plan::CpMethod::kRing, plan::CpMethod::kGroupCast, plan::CpMethod::kUlysses}) {
    SCOPED_TRACE(plan::name_of(method));
    run_split(problem, 4, options_for(method, 0, 16), 1e-12);
  }
}

TEST(ContextAttention, PartsAreMergedInFloat32) {
  at::manual_seed(5);
  const Problem exact = make_problem(test::fan_subtree_ends(120, 4, 20), at::kDouble);
  Problem rounded = exact;
  for (at::Tensor* x : {&rounded.q, &rounded.k, &rounded.v, &rounded.grad}) *x = x->to(at::kBFloat16);
  const Problem single = make_problem(exact.subtree_end, at::kBFloat16);
  run_split(single, 8, options_for(plan::CpMethod::kAuto, 1, 8), 2e-2);  // one bfloat16 rounding of each result
}

TEST(ContextAttention, DelaysChangeNoBit) {
  at::manual_seed(9);
  const Problem problem = make_problem(test::fan_subtree_ends(60, 4, 9), at::kDouble);
  const auto options = options_for(plan::CpMethod::kAuto, 1, 4);
  const auto prompt = run_split(problem, 4, options, 1e-12);
  const auto late =
      run_split(problem, 4, options, 1e-12,
                {.timeout = std::chrono::seconds(40), .max_delay = std::chrono::microseconds(400), .delay_seed = 7});
  ASSERT_EQ(prompt.size(), late.size());
  for (size_t i = 0; i < prompt.size(); ++i) EXPECT_TRUE(at::equal(prompt[i], late[i]));
}

TEST(ContextAttention, AWrongNumberOfRowsIsRefused) {
  const Problem problem = make_problem({3, 3, 3}, at::kDouble);
  comm::run_threads(1, [&](comm::World& world) {
    const plan::CpPlan plan = plan::plan_context(problem.node, plan::ParallelOptions{}, {});
    const auto exchange = std::make_shared<const ContextExchange>(std::span(&plan, 1), problem.subtree_end,
                                                                  world.communicator(), world.communicator());
    EXPECT_THROW(context_attention({problem.q.narrow(0, 0, 2), problem.k, problem.v}, exchange, {}), ShapeError);
    EXPECT_THROW(context_attention({problem.q, problem.k, problem.v}, nullptr, {}), ShapeError);
  });
}

}  // namespace
}  // namespace fpdist::parallel
