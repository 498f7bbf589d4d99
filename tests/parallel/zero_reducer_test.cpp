#include "fpdist/parallel/zero_reducer.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "comm/rank_values.hpp"
#include "fpdist/core/error.hpp"
#include "support/run_ranks.hpp"

namespace fpdist::parallel {
namespace {

using test::ascending_sum;
using test::values_of;

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

}  // namespace
}  // namespace fpdist::parallel
