// The laws of linear and its gradients, on the device that test_device.hpp says.
#include "kernels/linear/linear.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tensor.hpp"

namespace fpdist {
namespace {

using test::here, test::Made, test::random, test::there, test::wide;

/// A main grad with something in it.
at::Tensor ones_like_sum(at::IntArrayRef sizes, at::ScalarType dtype) {
  return there(at::ones(sizes, dtype == at::kDouble ? at::kDouble : at::kFloat));
}

void expect_float64(int64_t rows, int64_t in, int64_t out, at::ScalarType dtype) {
  const at::Tensor x = random({rows, in}, dtype), w = random({out, in}, dtype), b = random({out}, dtype);
  const at::Tensor dy = random({rows, out}, dtype);
  const auto limit = [&](Made made) { return test::tolerance(made, dtype); };
  const at::Tensor product = at::mm(wide(x), wide(w).t());
  const at::Tensor y = here(kernels::linear(there(x), there(w), there(b), {}, {}));
  EXPECT_EQ(y.scalar_type(), dtype);
  EXPECT_LT(test::relative_error(y, product + wide(b)), limit(Made::kProduct));
  EXPECT_LT(test::relative_error(here(kernels::linear(there(x), there(w), {}, {}, {})), product),
            limit(Made::kProduct));
  const at::Tensor unrounded = here(kernels::wide_linear(there(x), there(w)));
  EXPECT_EQ(unrounded.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
  EXPECT_LT(test::relative_error(unrounded, product), limit(Made::kSum));
  EXPECT_LT(test::relative_error(here(kernels::linear_backward_input(there(dy), there(w))), at::mm(wide(dy), wide(w))),
            limit(Made::kProduct));
  at::Tensor dw = ones_like_sum({out, in}, dtype), with_bias = dw.clone(), db = ones_like_sum({out}, dtype);
  kernels::linear_backward_weight(there(dy), there(x), dw);
  kernels::linear_backward_weight_bias(there(dy), there(x), with_bias, db);
  if (test::where().is_cpu()) {
    EXPECT_TRUE(at::equal(dw, with_bias));
  }
  const at::Tensor expected = at::mm(wide(dy).t(), wide(x)) + 1;
  EXPECT_LT(test::relative_error(here(dw), expected), limit(Made::kSum));
  EXPECT_LT(test::relative_error(here(with_bias), expected), limit(Made::kSum));
  EXPECT_LT(test::relative_error(here(db), wide(dy).sum(0) + 1), limit(Made::kSum));
}

TEST(Linear, MatchesFloat64ForEveryDtypeAndSize) {
  at::manual_seed(6);
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const auto& [rows, in, out] : {std::tuple{1, 1, 1},
                                        {5, 7, 3},
                                        {130, 200, 70},
                                        {0, 4, 3},
                                        {1, 8, 8},
                                        {33, 40, 72},
                                        {256, 128, 512},
                                        {500, 64, 24}}) {
      SCOPED_TRACE(testing::Message() << dtype << " " << rows << " " << in << " " << out);
      expect_float64(rows, in, out, dtype);
    }
  }
}

TEST(Linear, RepeatsBitForBitAndARowIgnoresTheOthers) {
  at::manual_seed(8);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    at::Tensor x = random({150, 96}, dtype);
    const at::Tensor w = there(random({64, 96}, dtype));
    const auto run = [&] { return here(kernels::linear(there(x), w, {}, {}, {})); };
    const at::Tensor y = run();
    EXPECT_TRUE(at::equal(y, run()));
    x.slice(0, 75).normal_();
    EXPECT_TRUE(at::equal(y.slice(0, 0, 75), run().slice(0, 0, 75)));
    at::Tensor sum[2];
    for (at::Tensor& dw : sum) {
      dw = ones_like_sum({64, 96}, dtype);
      kernels::linear_backward_weight(there(y), there(x), dw);
    }
    EXPECT_TRUE(at::equal(here(sum[0]), here(sum[1])));
  }
}

TEST(Linear, ABiasMayLieAnywhere) {
  const at::Tensor x = there(at::ones({16, 32}, at::kBFloat16)), w = there(at::full({24, 32}, 0.5, at::kBFloat16));
  const at::Tensor memory = there(at::arange(64, at::kBFloat16));
  for (const int64_t offset : {0, 8, 1, 0}) {  // an algorithm found for one address must not serve a worse one
    const at::Tensor bias = memory.narrow(0, offset, 24), y = kernels::linear(x, w, bias, {}, {});
    EXPECT_TRUE(at::equal(here(y)[3], here(bias) + 16)) << offset;
  }
}

TEST(Linear, RefusesWrongArguments) {
  const at::Tensor x = there(random({4, 3})), w = there(random({5, 3}));
  EXPECT_THROW(kernels::linear(x, w.slice(1, 1), {}, {}, {}), ShapeError);
  EXPECT_THROW(kernels::linear(x, w.to(at::kFloat), {}, {}, {}), ShapeError);
  EXPECT_THROW(kernels::linear(x, w, there(random({4})), {}, {}), ShapeError);
  EXPECT_THROW(kernels::linear(x.select(0, 0), w, {}, {}, {}), ShapeError);
  EXPECT_THROW(kernels::linear(x, w, at::empty({5}, x.options().device(at::kMeta)), {}, {}), ShapeError);
  at::Tensor narrow = there(at::zeros({5, 3}, at::kFloat));
  EXPECT_THROW(kernels::linear_backward_weight(there(random({4, 5})), x, narrow), ShapeError);
  at::Tensor dw = there(at::zeros({5, 3}, at::kDouble)), short_db = there(at::zeros({4}, at::kDouble));
  EXPECT_THROW(kernels::linear_backward_weight_bias(there(random({4, 5})), x, dw, short_db), ShapeError);
}

}  // namespace
}  // namespace fpdist
