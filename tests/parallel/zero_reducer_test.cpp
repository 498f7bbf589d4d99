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

TEST(ZeroReducer, ShardsAreContiguousEqualAndWhole) {
  test::run_ranks([](comm::World& world) {
    ops::FlatParameters parameters = make_parameters(at::kFloat);
    const ZeroReducer reducer(parameters, world.communicator());
    at::Tensor bounds = at::zeros({world.size(), 2}, at::kLong);
    bounds[world.rank()][0] = reducer.shard_begin();
    bounds[world.rank()][1] = reducer.shard_end();
    world.communicator().all_reduce(bounds);
    int64_t covered = 0;
    for (int r = 0; r < world.size(); ++r) {
      EXPECT_EQ(bounds[r][0].item<int64_t>(), covered);
      covered = bounds[r][1].item<int64_t>();
      EXPECT_LE(std::abs(covered - bounds[r][0].item<int64_t>() - parameters.size() / world.size()), 1);
    }
    EXPECT_EQ(covered, parameters.size());
  });
}

TEST(ZeroReducer, EachRankHoldsItsShardOfTheSummedGradients) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    test::run_ranks([dtype](comm::World& world) {
      ops::FlatParameters parameters = make_parameters(dtype);
      ZeroReducer reducer(parameters, world.communicator());
      const int64_t n = parameters.size(), begin = reducer.shard_begin(), length = reducer.shard_end() - begin;
      const at::ScalarType sum_dtype = parameters.main_grad().scalar_type();
      parameters.main_grad().copy_(values_of(world.rank(), n, sum_dtype));
      const at::Tensor shard = reducer.reduce_gradients();
      EXPECT_TRUE(at::equal(shard, ascending_sum(world.size(), n, sum_dtype).narrow(0, begin, length)));
      EXPECT_TRUE(length == 0 || shard.data_ptr() == parameters.main_grad().narrow(0, begin, length).data_ptr());
    });
  }
}

TEST(ZeroReducer, GatheredValuesReachTheParametersOfEveryRank) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    test::run_ranks([dtype](comm::World& world) {
      ops::FlatParameters parameters = make_parameters(dtype);
      ZeroReducer reducer(parameters, world.communicator());
      const int64_t n = parameters.size(), begin = reducer.shard_begin(), length = reducer.shard_end() - begin;
      const at::Tensor wanted = values_of(3, n, dtype);
      parameters.value().narrow(0, begin, length).copy_(wanted.narrow(0, begin, length));
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
    ZeroReducer reducer(parameters, world.communicator());
    parameters.main_grad().fill_(1.0);
    parameters.value()
        .narrow(0, reducer.shard_begin(), reducer.shard_end() - reducer.shard_begin())
        .copy_(reducer.reduce_gradients());
    reducer.gather_values();
    EXPECT_TRUE(at::equal(parameters.value(), at::full({2}, static_cast<double>(world.size()), at::kDouble)));
  });
}

}  // namespace
}  // namespace fpdist::parallel
