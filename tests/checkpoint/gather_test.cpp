#include "src/checkpoint/gather.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::checkpoint {
namespace {

at::Tensor numbered(at::IntArrayRef shape) {
  return at::arange(at::tensor(shape).prod().item<int64_t>()).reshape(shape).to(at::kDouble);
}

/// "rows" is cut by rows, one rank has none of them; "columns" by columns; "whole" is the last rank's.
std::vector<TensorSlice> slices_of(int rank, int ranks) {
  std::vector<TensorSlice> own;
  const at::Tensor columns = numbered({3, 6}), rows = numbered({5, 2});
  if (rank == ranks - 1) own.push_back({"whole", 0, 0, numbered({4})});
  own.push_back({"columns", 1, 2 * rank, columns.narrow(1, 2 * rank, 2)});
  if (rank != 1) own.push_back({"rows", 0, rank == 0 ? 0 : 3, rows.narrow(0, rank == 0 ? 0 : 3, rank == 0 ? 3 : 2)});
  return own;
}

const std::vector<TensorSpec> kWhole{
    {"rows", at::kDouble, {5, 2}}, {"whole", at::kDouble, {4}}, {"columns", at::kDouble, {3, 6}}};

TEST(Gatherer, BringsEverySliceToItsPlaceOnRankZero) {
  comm::run_threads(3, [](comm::World& world) {
    const auto device = comm::make_cpu_device();
    Gatherer gatherer(kWhole, slices_of(world.rank(), world.size()), world.communicator(), *device);
    if (world.rank() != 0) return gatherer.give_all();
    for (size_t t = 0; t < kWhole.size(); ++t)
      EXPECT_TRUE(at::equal(gatherer.fetch(t), numbered(kWhole[t].shape))) << kWhole[t].name;
  });
}

TEST(Gatherer, RefusesASliceOfNoTensor) {
  comm::run_threads(1, [](comm::World& world) {
    const auto device = comm::make_cpu_device();
    EXPECT_THROW(Gatherer(kWhole, {{"other", 0, 0, numbered({4})}}, world.communicator(), *device), ShapeError);
  });
}

}  // namespace
}  // namespace fpdist::checkpoint
