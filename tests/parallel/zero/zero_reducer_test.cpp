#include "src/parallel/zero/zero_reducer.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/comm/rank_values.hpp"
#include "tests/support/ranks/late_gathers.hpp"
#include "tests/support/ranks/run_ranks.hpp"

namespace fpdist::parallel {
namespace {

using test::ascending_sum, test::values_of;

/// 11 x 7 weights, a bias of 5 and a norm weight of 3: 85 elements, ragged on every number of ranks but 1 and 5.
ops::FlatParameters make_parameters(at::ScalarType dtype) {
  std::vector<ops::ParameterPtr> parameters;
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{5}, {11, 7}, {3}}) {
    parameters.push_back(std::make_shared<ops::Parameter>());
    parameters.back()->name = text("p", parameters.size());
    parameters.back()->value = at::zeros(shape, dtype).requires_grad_(true);
  }
  return ops::FlatParameters(parameters);
}

constexpr int64_t kBucket = 40;  // the matrix has a bucket of its own, the two vectors share one

TEST(ZeroReducer, PiecesOfABucketAreContiguousEqualAndWhole) {
  test::run_ranks([](comm::World& world) {
    ops::FlatParameters parameters = make_parameters(at::kFloat);
    const ZeroReducer reducer(parameters, world.communicator(), 1, kBucket);
    ASSERT_EQ(reducer.pieces().size(), 2U);
    at::Tensor owners = at::zeros({parameters.size()}, at::kLong);
    at::Tensor sizes = at::zeros({2, world.size()}, at::kLong);
    for (int64_t bucket = 0; bucket < 2; ++bucket) {
      const FlatRange& piece = reducer.pieces()[static_cast<size_t>(bucket)];
      owners.narrow(0, piece.begin, piece.size()).add_(1);
      sizes[bucket][world.rank()] = piece.size();
    }
    world.communicator().all_reduce(owners);
    world.communicator().all_reduce(sizes);
    EXPECT_TRUE(at::equal(owners, at::ones_like(owners))) << "every element has one owner";
    for (int64_t bucket = 0; bucket < 2; ++bucket)
      EXPECT_LE((sizes[bucket].max() - sizes[bucket].min()).item<int64_t>(), 1);
  });
}

TEST(ZeroReducer, EachRankHoldsItsPiecesOfTheSummedGradients) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    test::run_ranks([dtype](comm::World& world) {
      ops::FlatParameters parameters = make_parameters(dtype);
      ZeroReducer reducer(parameters, world.communicator(), 1, kBucket);
      const at::ScalarType sum_dtype = parameters.main_grad().scalar_type();
      for (int step = 0; step < 2; ++step) {  // begin() starts over
        reducer.begin();
        parameters.main_grad().copy_(values_of(world.rank(), parameters.size(), sum_dtype));
        if (step == 1) reducer.complete(parameters.parameters());
        reducer.finish();
        const at::Tensor sum = ascending_sum(world.size(), parameters.size(), sum_dtype);
        const auto gradients = reducer.gradients();
        for (size_t i = 0; i < gradients.size(); ++i) {
          const FlatRange& piece = reducer.pieces()[i];
          EXPECT_TRUE(at::equal(gradients[i], sum.narrow(0, piece.begin, piece.size())));
        }
        reducer.gather_gradients();
        EXPECT_TRUE(at::equal(parameters.main_grad(), sum));
      }
    });
  }
}

TEST(ZeroReducer, ABucketIsReducedWhenItsLastGradientIsThere) {
  test::run_ranks([](comm::World& world) {
    std::vector<ops::ParameterPtr> list;
    for (int p = 0; p < 4; ++p) {
      list.push_back(std::make_shared<ops::Parameter>());
      list.back()->name = text("p", p);
      list.back()->value = at::zeros({4, 10}, at::kDouble).requires_grad_(true);
    }
    ops::FlatParameters parameters(list);
    ZeroReducer reducer(parameters, world.communicator(), 3, 40);  // four buckets, the last one late
    parameters.main_grad().fill_(1.0);
    const auto is_reduced = [&](size_t bucket) {
      const at::Tensor piece = reducer.gradients()[bucket];
      return piece.numel() == 0 || piece[0].item<double>() == world.size();
    };
    const bool alone = world.size() == 1;
    reducer.complete({&list[1], 1});
    EXPECT_EQ(is_reduced(1), alone || reducer.gradients()[1].numel() == 0) << "the buckets behind it come first";
    reducer.complete({&list[3], 1});
    EXPECT_EQ(is_reduced(3), alone || reducer.gradients()[3].numel() == 0) << "late ones wait for finish";
    reducer.complete({&list[2], 1});
    EXPECT_TRUE(is_reduced(2) && is_reduced(1));
    EXPECT_EQ(is_reduced(0), alone || reducer.gradients()[0].numel() == 0);
    reducer.finish();
    for (size_t bucket = 0; bucket < 4; ++bucket) EXPECT_TRUE(is_reduced(bucket));
  });
}

TEST(ZeroReducer, GatheredValuesReachTheParametersOfEveryRank) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    test::run_ranks([dtype](comm::World& world) {
      ops::FlatParameters parameters = make_parameters(dtype);
      ZeroReducer reducer(parameters, world.communicator(), 1, kBucket);
      const at::Tensor wanted = values_of(3, parameters.size(), dtype);
      for (const FlatRange& piece : reducer.pieces())
        parameters.value().narrow(0, piece.begin, piece.size()).copy_(wanted.narrow(0, piece.begin, piece.size()));
      reducer.gather_values();
      EXPECT_TRUE(at::equal(parameters.value(), wanted));
      const at::Tensor weights = parameters.parameters()[0]->value.detach();
      EXPECT_TRUE(at::equal(weights.flatten(), wanted.narrow(0, 0, weights.numel())));
    });
  }
}

TEST(ZeroReducer, ModelsSmallerThanTheAxisWork) {
  test::run_ranks([](comm::World& world) {
    auto scalar = std::make_shared<ops::Parameter>();
    scalar->name = "tiny";
    scalar->value = at::zeros({2}, at::kDouble).requires_grad_(true);
    ops::FlatParameters parameters({scalar});
    ZeroReducer reducer(parameters, world.communicator(), 0);
    parameters.main_grad().fill_(1.0);
    reducer.finish();
    const FlatRange piece = reducer.pieces().at(0);
    parameters.value().narrow(0, piece.begin, piece.size()).copy_(reducer.gradients().at(0));
    reducer.gather_values();
    EXPECT_TRUE(at::equal(parameters.value(), at::full({2}, static_cast<double>(world.size()), at::kDouble)));
    EXPECT_THROW(ZeroReducer(parameters, world.communicator(), 2), ShapeError);
  });
}

/// The ranks of `world`, with gathers that arrive when they are waited for.
std::unique_ptr<test::LateGathers> late_gathers(comm::World& world, std::shared_ptr<test::Events> events) {
  return std::make_unique<test::LateGathers>(world.communicator().split("dp", 0, world.rank()), std::move(events));
}

TEST(ZeroReducer, TheBuffersOfItsCollectivesAreRegisteredOnce) {
  test::run_ranks([](comm::World& world) {
    const auto axis = late_gathers(world, std::make_shared<test::Events>());
    ops::FlatParameters parameters = make_parameters(at::kBFloat16);
    const ZeroReducer reducer(parameters, *axis, 1, kBucket);
    ASSERT_EQ(axis->kept().size(), world.size() > 1 ? 2U : 0U);
    if (world.size() == 1) return;
    EXPECT_TRUE(axis->kept()[0].is_same(parameters.value()) && axis->kept()[1].is_same(parameters.main_grad()));
  });
}

void write_pieces(ops::FlatParameters& parameters, const ZeroReducer& reducer, const at::Tensor& wanted) {
  at::Tensor& value = parameters.value();
  for (const FlatRange& piece : reducer.pieces())
    value.narrow(0, piece.begin, piece.size()).copy_(wanted.narrow(0, piece.begin, piece.size()));
}

TEST(ZeroReducer, ABucketIsGatheredInTheOrderOfUseAndWaitedForWhenItIsNeeded) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    test::run_ranks([dtype](comm::World& world) {
      const auto events = std::make_shared<test::Events>();
      const auto axis = late_gathers(world, events);
      ops::FlatParameters parameters = make_parameters(dtype);  // in flat order: 77 elements, then 5 and 3
      ZeroReducer reducer(parameters, *axis, 1, kBucket);
      const auto& all = parameters.parameters();
      const std::vector<ops::ParameterPtr> used{all[1], all[0], all[2]};
      reducer.set_order_of_use(used);
      EXPECT_EQ(reducer.order_of_use(), (std::vector<size_t>{1, 0}));
      const at::Tensor wanted = values_of(3, parameters.size(), dtype);
      write_pieces(parameters, reducer, wanted);
      for (const size_t bucket : reducer.order_of_use()) reducer.start_gather(bucket);
      EXPECT_EQ(reducer.is_under_way(all), world.size() > 1);
      if (world.size() == 1) return;

      const auto is_there = [&](size_t p) {
        const int64_t begin = parameters.offset(p), size = all[p]->value.numel();
        return at::equal(all[p]->value.detach().flatten(), wanted.narrow(0, begin, size));
      };
      EXPECT_TRUE(reducer.is_under_way({&all[0], 1}) && reducer.is_under_way({&all[2], 1}));
      EXPECT_FALSE(is_there(0)) << "the test sees what is under way";
      reducer.need({&all[2], 1});
      EXPECT_TRUE(is_there(1) && is_there(2)) << "they share a bucket";
      EXPECT_FALSE(reducer.is_under_way({&all[1], 1}));
      EXPECT_TRUE(reducer.is_under_way({&all[0], 1}));
      EXPECT_FALSE(is_there(0));
      reducer.need(all);
      EXPECT_TRUE(is_there(0));
      EXPECT_EQ(*events, (test::Events{"start gather of 8", "start gather of 77", "wait for gather of 8",
                                       "wait for gather of 77"}));
      reducer.settle();  // nothing is under way any more
      EXPECT_EQ(events->size(), 4U);
    });
  }
}

TEST(ZeroReducer, WhoeverReadsOrEndsItWaits) {
  test::run_ranks([](comm::World& world) {
    const auto events = std::make_shared<test::Events>();
    const auto axis = late_gathers(world, events);
    ops::FlatParameters parameters = make_parameters(at::kDouble);
    const at::Tensor wanted = values_of(3, parameters.size(), at::kDouble);
    const size_t waits = world.size() == 1 ? 0 : 2;
    const auto start = [&](ZeroReducer& reducer) {
      events->clear();
      write_pieces(parameters, reducer, wanted);
      for (const size_t bucket : reducer.order_of_use()) reducer.start_gather(bucket);
      EXPECT_EQ(events->size(), waits);
    };
    {
      ZeroReducer reducer(parameters, *axis, 1, kBucket);
      start(reducer);
      EXPECT_TRUE(at::equal(parameters.value(), wanted)) << "the flat buffer";
      start(reducer);
      reducer.finish();
      EXPECT_EQ(events->size(), 2 * waits) << "the next update";
      start(reducer);
      if (waits > 0) {
        EXPECT_THROW(reducer.start_gather(0), std::logic_error);
      }
    }
    EXPECT_EQ(events->size(), 2 * waits) << "the reducer's end";
    EXPECT_TRUE(at::equal(parameters.value(), wanted));
    try {
      ZeroReducer reducer(parameters, *axis, 1, kBucket);
      start(reducer);
      throw CommError("a peer is lost");
    } catch (const CommError&) {
      EXPECT_EQ(events->size(), waits) << "an error is not held up";
    }
    EXPECT_EQ(parameters.value().numel(), parameters.size()) << "nobody is left to wait for";
  });
}

TEST(ZeroReducer, AnOrderOfUseNamesEveryParameter) {
  test::run_ranks([](comm::World& world) {
    ops::FlatParameters parameters = make_parameters(at::kDouble), others = make_parameters(at::kDouble);
    ZeroReducer reducer(parameters, world.communicator(), 1, kBucket);
    EXPECT_THROW(reducer.set_order_of_use(others.parameters()), ShapeError);
    EXPECT_THROW(reducer.set_order_of_use({&parameters.parameters()[0], 1}), ShapeError);
    EXPECT_EQ(reducer.order_of_use(), (std::vector<size_t>{0, 1}));
  });
}

}  // namespace
}  // namespace fpdist::parallel
