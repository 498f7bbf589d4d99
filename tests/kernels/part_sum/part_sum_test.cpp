// The laws of part_sum, on the device that test_device.hpp says.
#include "kernels/part_sum/part_sum.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/random/random_tensor.hpp"

namespace fpdist {
namespace {

using test::here, test::random, test::there;

TEST(PartSum, AddsInTheirOrderAndRoundsOnce) {
  at::manual_seed(6);
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble, at::kLong})
    for (const int count : {1, 2, 3, 8, 17}) {
      SCOPED_TRACE(testing::Message() << count << " parts of " << dtype);
      std::vector<at::Tensor> parts, beyond;
      for (int part = 0; part < count; ++part) {
        parts.push_back((random({1001}) * 100).to(dtype));
        beyond.push_back(there(parts.back()));
      }
      const at::Tensor out = there(at::empty({1001}, parts[0].options()));
      kernels::sum_parts(beyond, out);
      at::Tensor sum = dtype == at::kBFloat16 ? parts[0].to(at::kFloat) : parts[0].clone();
      for (int part = 1; part < count; ++part) sum = sum + parts[static_cast<size_t>(part)].to(sum.scalar_type());
      EXPECT_TRUE(at::equal(here(out), sum.to(dtype)));
    }
}

TEST(PartSum, OutMayBeAPartAndPartsMayLieAnywhere) {
  const at::Tensor whole = there(random({400}, at::kBFloat16));
  std::vector<at::Tensor> parts{whole.narrow(0, 1, 99), whole.narrow(0, 200, 99)};
  const at::Tensor expected = (here(parts[0]).to(at::kFloat) + here(parts[1]).to(at::kFloat)).to(at::kBFloat16);
  kernels::sum_parts(parts, parts[1]);
  EXPECT_TRUE(at::equal(here(parts[1]), expected));
  const at::Tensor none = there(at::empty({0}, at::kFloat));
  EXPECT_NO_THROW(kernels::sum_parts({none, none}, none));
}

TEST(PartSum, RefusesWrongArguments) {
  const at::Tensor x = there(random({8}));
  EXPECT_THROW(kernels::sum_parts({x, x.to(at::kFloat)}, x), ShapeError);
  EXPECT_THROW(kernels::sum_parts({x, x.narrow(0, 0, 4)}, x), ShapeError);
  EXPECT_THROW(kernels::sum_parts({x.view({2, 4})}, x.view({2, 4})), ShapeError);
  EXPECT_THROW(kernels::sum_parts({x.slice(0, 0, 8, 2)}, x.narrow(0, 0, 4)), ShapeError);
  EXPECT_THROW(kernels::sum_parts({}, x), ShapeError);
}

}  // namespace
}  // namespace fpdist
