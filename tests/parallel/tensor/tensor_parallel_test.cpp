#include "src/parallel/tensor/tensor_parallel.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <numeric>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tensor.hpp"
#include "tests/support/ranks/run_ranks.hpp"

namespace fpdist::parallel {
namespace {

using test::random, test::relative_error;

using Sum = ops::Sharding::Sum;
constexpr double kTolerance = 1e-12;

/// body(tp) on thread ranks of every degree. Inputs are drawn outside: torch's generator is one for all threads.
void on_every_degree(const std::function<void(comm::Communicator&)>& body) {
  for (const int ranks : {1, 2, 3, 4, 8}) {
    SCOPED_TRACE(testing::Message() << "tp " << ranks);
    comm::run_threads(ranks, [&](comm::World& world) { body(world.communicator()); }, {.timeout = test::kPatience});
  }
}

/// Where rank r's run of `counts` begins.
int64_t begin_of(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}
at::Tensor own(const at::Tensor& whole, const std::vector<int64_t>& counts, int rank, int64_t dim = 0) {
  return whole.narrow(dim, begin_of(counts, rank), counts[static_cast<size_t>(rank)]).contiguous();
}
at::Tensor leaf(const at::Tensor& value) { return value.detach().clone().requires_grad_(true); }

enum class State { kTrained, kFrozen };

/// The slice of `whole` along `dim` that this rank holds.
ops::Parameter slice_of(const at::Tensor& whole, int64_t dim, comm::Communicator& tp, State state) {
  const auto counts = split_evenly(whole.size(dim), tp.size());
  ops::Parameter parameter;
  parameter.name = "weight";
  parameter.value = leaf(own(whole, counts, tp.rank(), dim));
  if (state == State::kTrained)
    parameter.main_grad =
        at::zeros(parameter.value.sizes(), whole.options().dtype(ops::accumulate_dtype(whole.scalar_type())));
  parameter.sharding = {.dim = static_cast<int>(dim),
                        .begin = begin_of(counts, tp.rank()),
                        .full_shape = whole.sizes().vec(),
                        .sum = Sum::kNobody,
                        .counted = true};
  return parameter;
}

/// Rows of every kind: none, one, fewer than ranks, ragged, even; and a cut that leaves rank 0 without any.
std::vector<std::vector<int64_t>> row_cuts(int ranks) {
  std::vector<std::vector<int64_t>> cuts;
  for (const int64_t rows : {0, 1, 2, 7, 16}) cuts.push_back(split_evenly(rows, ranks));
  std::vector<int64_t> last(static_cast<size_t>(ranks), 0);
  last.back() = 5;
  cuts.push_back(last);
  return cuts;
}

TEST(SplitEvenly, GivesTheFirstPartsTheRemainder) {
  EXPECT_EQ(split_evenly(7, 3), (std::vector<int64_t>{3, 2, 2}));
  EXPECT_EQ(split_evenly(2, 4), (std::vector<int64_t>{1, 1, 0, 0}));
  EXPECT_EQ(split_evenly(0, 2), (std::vector<int64_t>{0, 0}));
  EXPECT_THROW(split_evenly(3, 0), ShapeError);
  EXPECT_THROW(split_evenly(-1, 2), ShapeError);
}

TEST(TensorParallelRows, GatherAndScatterSumAreEachOthersBackward) {
  at::manual_seed(1);
  const at::Tensor rows = random({16, 3, 2}), by_rank = random({8, 16, 3, 2});
  on_every_degree([&](comm::Communicator& tp) {
    for (const auto& counts : row_cuts(tp.size())) {
      const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
      const at::Tensor x = rows.narrow(0, 0, total), weights = by_rank.narrow(1, 0, total);
      const at::Tensor summed = weights.narrow(0, 0, tp.size()).sum(0);
      const at::Tensor mine = leaf(own(x, counts, tp.rank()));
      const at::Tensor all = gather_rows(mine, tp, counts);
      EXPECT_TRUE(at::equal(all, x));
      torch::autograd::backward({all}, {weights[tp.rank()]});
      EXPECT_LT(relative_error(mine.grad(), own(summed, counts, tp.rank())), kTolerance);

      const at::Tensor partial = leaf(weights[tp.rank()]);
      const at::Tensor sum = scatter_sum_rows(partial, tp, counts);
      EXPECT_LT(relative_error(sum, own(summed, counts, tp.rank())), kTolerance);
      torch::autograd::backward({sum}, {own(x, counts, tp.rank())});
      EXPECT_TRUE(at::equal(partial.grad(), x));
    }
  });
}

TEST(TensorParallelRows, OneRankCommunicatesNothing) {
  comm::run_threads(1, [](comm::World& world) {
    const std::vector<int64_t> counts{4};
    const at::Tensor x = at::ones({4, 2});
    EXPECT_TRUE(gather_rows(x, world.communicator(), counts).is_same(x));
    EXPECT_TRUE(scatter_sum_rows(x, world.communicator(), counts).is_same(x));
    EXPECT_EQ(world.communicator().traffic().messages, 0);
  });
}

TEST(TensorParallelRows, RefusesRowsThatTheCountsDoNotDescribe) {
  comm::run_threads(2, [](comm::World& world) {
    comm::Communicator& tp = world.communicator();
    const std::vector<int64_t> counts{2, 2}, short_counts{4};
    EXPECT_THROW(gather_rows(at::ones({3, 2}), tp, counts), ShapeError);
    EXPECT_THROW(gather_rows(at::ones({2, 2}), tp, short_counts), ShapeError);
    EXPECT_THROW(scatter_sum_rows(at::ones({2, 2}), tp, counts), ShapeError);
    EXPECT_THROW(scatter_sum_rows(at::Tensor(), tp, counts), ShapeError);
  });
}

TEST(TensorParallelRows, AColumnAndARowLinearEqualTheUnsplitMlp) {
  at::manual_seed(2);
  const at::Tensor x = random({7, 5}), up = random({11, 5}), down = random({5, 11}), dy = random({7, 5});
  const at::Tensor x0 = leaf(x), up0 = leaf(up), down0 = leaf(down);
  const at::Tensor y0 = at::mm(at::silu(at::mm(x0, up0.t())), down0.t());
  y0.backward(dy);
  on_every_degree([&](comm::Communicator& tp) {
    const auto counts = split_evenly(7, tp.size()), inner = split_evenly(11, tp.size());
    const ops::Parameter u = slice_of(up, 0, tp, State::kTrained), d = slice_of(down, 1, tp, State::kTrained);
    const at::Tensor mine = leaf(own(x, counts, tp.rank()));
    const at::Tensor y =
        scatter_sum_rows(ops::linear(at::silu(ops::linear(gather_rows(mine, tp, counts), u)), d), tp, counts);
    EXPECT_LT(relative_error(y, own(y0, counts, tp.rank())), kTolerance);
    y.backward(own(dy, counts, tp.rank()));
    EXPECT_LT(relative_error(mine.grad(), own(x0.grad(), counts, tp.rank())), kTolerance);
    EXPECT_LT(relative_error(u.main_grad, own(up0.grad(), inner, tp.rank())), kTolerance);
    EXPECT_LT(relative_error(d.main_grad, own(down0.grad(), inner, tp.rank(), 1)), kTolerance);
  });
}

void expect_split_embedding(int64_t vocabulary, State state) {
  const at::Tensor weight = random({vocabulary, 3}), dy = random({16, 3});
  const at::Tensor token = at::randint(vocabulary, {16}, at::kLong);
  on_every_degree([&](comm::Communicator& tp) {
    for (const auto& counts : row_cuts(tp.size())) {
      const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
      const at::Tensor ids = token.narrow(0, 0, total);
      const ops::Parameter slice = slice_of(weight, 0, tp, state);
      const at::Tensor rows = embedding(ids, slice, tp, counts);
      EXPECT_TRUE(at::equal(rows, own(weight.index_select(0, ids), counts, tp.rank())));
      EXPECT_EQ(rows.requires_grad(), state == State::kTrained);
      if (state == State::kFrozen) continue;
      rows.backward(own(dy.narrow(0, 0, total), counts, tp.rank()));
      const at::Tensor grad = at::zeros_like(weight).index_add(0, ids, dy.narrow(0, 0, total));
      EXPECT_LT(relative_error(slice.main_grad, own(grad, split_evenly(vocabulary, tp.size()), tp.rank())), kTolerance);
      EXPECT_FALSE(slice.value.grad().defined());
    }
  });
}

TEST(TensorParallelEmbedding, EqualsTheUnsplitEmbedding) {
  at::manual_seed(3);
  for (const int64_t vocabulary : {13, 5}) expect_split_embedding(vocabulary, State::kTrained);
}
TEST(TensorParallelEmbedding, AFrozenWeightGivesRowsWithoutGradient) {
  at::manual_seed(4);
  expect_split_embedding(13, State::kFrozen);
}

struct Scores {
  at::Tensor hidden, weight, row, target, grad_logp, grad_entropy;
};
/// Row i has i % 3 scores, so some rows have none; targets hit every slice.
Scores make_scores(int64_t rows, int64_t vocabulary, at::ScalarType dtype) {
  std::vector<int64_t> row;
  for (int64_t r = 0; r < rows; ++r) row.insert(row.end(), static_cast<size_t>(r % 3), r);
  const auto scores = static_cast<int64_t>(row.size());
  return {random({rows, 4}, dtype),
          random({vocabulary, 4}, dtype),
          at::tensor(at::ArrayRef<int64_t>(row), at::kLong),
          at::randint(vocabulary, {scores}, at::kLong),
          random({scores}, ops::accumulate_dtype(dtype)),
          random({rows}, ops::accumulate_dtype(dtype))};
}

/// The split computation against ops::selected_logprob: outputs, summed d_hidden shares, own rows of dW.
void expect_split_logprob(const Scores& s, State state, double tolerance, double temperature = 1) {
  const at::Tensor hidden0 = leaf(s.hidden);
  ops::Parameter whole;
  whole.value = leaf(s.weight);
  whole.main_grad = at::zeros(s.weight.sizes(), s.weight.options().dtype(s.grad_entropy.scalar_type()));
  const auto want = ops::selected_logprob(hidden0, whole, s.row, s.target, temperature);
  torch::autograd::backward({want.logp, want.entropy}, {s.grad_logp, s.grad_entropy});
  on_every_degree([&](comm::Communicator& tp) {
    const ops::Parameter slice = slice_of(s.weight, 0, tp, state);
    const at::Tensor hidden = leaf(s.hidden);
    const auto got = selected_logprob(hidden, slice, s.row, s.target, tp, temperature);
    EXPECT_LT(relative_error(got.logp, want.logp), tolerance);
    EXPECT_LT(relative_error(got.entropy, want.entropy), tolerance);
    EXPECT_TRUE(at::equal(got.argmax, want.argmax));
    torch::autograd::backward({got.logp, got.entropy}, {s.grad_logp, s.grad_entropy});
    at::Tensor d_hidden = hidden.grad().contiguous();
    tp.all_reduce(d_hidden);
    EXPECT_LT(relative_error(d_hidden, hidden0.grad()), tolerance);
    EXPECT_FALSE(slice.value.grad().defined());
    if (state == State::kFrozen) return;
    const auto cut = split_evenly(s.weight.size(0), tp.size());
    EXPECT_LT(relative_error(slice.main_grad, own(whole.main_grad, cut, tp.rank())), tolerance);
  });
}

TEST(TensorParallelLogprob, EqualsTheUnsplitHead) {
  at::manual_seed(5);
  for (const int64_t rows : {0, 1, 2, 7, 16})
    for (const int64_t vocabulary : {29, 5}) {
      SCOPED_TRACE(testing::Message() << rows << " rows, vocabulary " << vocabulary);
      expect_split_logprob(make_scores(rows, vocabulary, at::kDouble), State::kTrained, kTolerance);
    }
}
TEST(TensorParallelLogprob, TemperatureDividesLogitsOfEverySlice) {
  at::manual_seed(8);
  expect_split_logprob(make_scores(7, 29, at::kDouble), State::kTrained, kTolerance, 0.6);
}
TEST(TensorParallelLogprob, AFrozenHeadStillPassesTheGradientOn) {
  at::manual_seed(6);
  expect_split_logprob(make_scores(7, 29, at::kDouble), State::kFrozen, kTolerance);
}
TEST(TensorParallelLogprob, Bfloat16StaysWithinItsRounding) {
  at::manual_seed(7);
  expect_split_logprob(make_scores(16, 29, at::kBFloat16), State::kTrained, 2e-2);
}
TEST(TensorParallelLogprob, OfEqualLogitsTheFirstWins) {
  Scores s = make_scores(4, 9, at::kDouble);
  s.hidden.zero_();
  expect_split_logprob(s, State::kTrained, kTolerance);
}
TEST(TensorParallelLogprob, LogitsFarApartBetweenSlicesStayFinite) {
  at::manual_seed(8);
  Scores s = make_scores(7, 11, at::kDouble);
  s.weight[10].mul_(1e3);  // the last slice has everything or nothing
  expect_split_logprob(s, State::kTrained, kTolerance);
}

TEST(TensorParallelLogprob, OneGatherACall) {
  at::manual_seed(9);
  const Scores s = make_scores(7, 29, at::kDouble);
  comm::run_threads(4, [&](comm::World& world) {
    comm::Communicator& tp = world.communicator();
    const auto got = selected_logprob(leaf(s.hidden), slice_of(s.weight, 0, tp, State::kTrained), s.row, s.target, tp);
    EXPECT_EQ(tp.traffic().messages, 2);
    EXPECT_EQ(tp.traffic().bytes, 3 * 8 * (s.row.numel() + 4 * 7));
    got.logp.sum().backward();
    EXPECT_EQ(tp.traffic().messages, 2);
  });
}

TEST(TensorParallel, RefusesAWholeWeightAndIdsOutsideTheVocabulary) {
  const Scores s = make_scores(4, 9, at::kDouble);
  comm::run_threads(2, [&](comm::World& world) {
    comm::Communicator& tp = world.communicator();
    ops::Parameter whole;
    whole.name = "lm_head.weight";
    whole.value = leaf(s.weight);
    const ops::Parameter slice = slice_of(s.weight, 0, tp, State::kTrained);
    const std::vector<int64_t> counts{2, 2};
    const at::Tensor token = at::tensor({0, 1, 2, 9}, at::kLong);
    EXPECT_THROW(embedding(token, whole, tp, counts), ShapeError);
    EXPECT_THROW(embedding(token, slice, tp, counts), ShapeError);
    EXPECT_THROW(embedding(token.to(at::kInt), slice, tp, counts), ShapeError);
    EXPECT_THROW(selected_logprob(s.hidden, whole, s.row, s.target, tp), ShapeError);
    EXPECT_THROW(selected_logprob(s.hidden, slice, s.row, s.target + 9, tp), ShapeError);
    EXPECT_THROW(selected_logprob(s.hidden, slice, s.row, s.target - 9, tp), ShapeError);
    EXPECT_THROW(selected_logprob(s.hidden, slice, s.row, s.target.to(at::kInt), tp), ShapeError);
  });
}

ops::ParameterPtr with_gradient(const at::Tensor& grad, Sum sum) {
  auto parameter = std::make_shared<ops::Parameter>();
  parameter->value = at::zeros(grad.sizes(), grad.options());
  parameter->main_grad = grad.clone();
  parameter->sharding.sum = sum;
  return parameter;
}

TEST(SumReplicatedGradients, SumsEachKindOverItsRanksWithOneCallEach) {
  at::manual_seed(10);
  const at::Tensor norm = random({8, 3}), cut = random({8, 2, 2}), head = random({8, 2, 3}), bias = random({8, 5});
  comm::run_threads(4, [&](comm::World& world) {
    comm::Communicator& tp = world.communicator();
    const auto replicas = tp.split("replicas", tp.rank() / 2, tp.rank());
    const std::vector<ops::ParameterPtr> all{
        with_gradient(norm[tp.rank()], Sum::kAxis), with_gradient(cut[tp.rank()], Sum::kNobody),
        with_gradient(head[tp.rank()], Sum::kReplicas), with_gradient(bias[tp.rank()], Sum::kAxis),
        with_gradient(bias[tp.rank()], Sum::kAxis)};
    all[4]->main_grad.reset();  // frozen
    const int64_t before = tp.traffic().messages;
    at::Tensor once = at::zeros({8}, at::kDouble);
    tp.all_reduce(once);
    const int64_t after = tp.traffic().messages;
    sum_replicated_gradients(all, tp, *replicas);
    EXPECT_EQ(tp.traffic().messages - after, after - before);
    const int first = tp.rank() / 2 * 2;
    EXPECT_LT(relative_error(all[0]->main_grad, norm.narrow(0, 0, 4).sum(0)), kTolerance);
    EXPECT_TRUE(at::equal(all[1]->main_grad, cut[tp.rank()]));
    EXPECT_LT(relative_error(all[2]->main_grad, head[first] + head[first + 1]), kTolerance);
    EXPECT_LT(relative_error(all[3]->main_grad, bias.narrow(0, 0, 4).sum(0)), kTolerance);
    EXPECT_FALSE(all[4]->main_grad.defined());
  });
}

TEST(SumReplicatedGradients, RefusesTwoDtypesAndLeavesOneRankAlone) {
  comm::run_threads(2, [](comm::World& world) {
    const std::vector<ops::ParameterPtr> mixed{with_gradient(at::ones({2}, at::kFloat), Sum::kAxis),
                                               with_gradient(at::ones({2}, at::kDouble), Sum::kAxis)};
    EXPECT_THROW(sum_replicated_gradients(mixed, world.communicator(), world.communicator()), ShapeError);
  });
  comm::run_threads(1, [](comm::World& world) {
    const std::vector<ops::ParameterPtr> one{with_gradient(at::ones({2}), Sum::kAxis)};
    sum_replicated_gradients(one, world.communicator(), world.communicator());
    EXPECT_TRUE(at::equal(one[0]->main_grad, at::ones({2})));
  });
}

}  // namespace
}  // namespace fpdist::parallel
