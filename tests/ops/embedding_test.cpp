// The laws of the embedding's sums, on the device that test_device.hpp says.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/ops/functional.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tensor.hpp"

namespace fpdist {
namespace {

using test::here, test::Made, test::random, test::there, test::wide;

TEST(Embedding, AddsRepeatedTokensInOneOrder) {
  at::manual_seed(9);
  const at::Tensor token = at::randint(0, 20, {500}, at::kLong), dy = random({500, 64}, at::kFloat);
  const auto run = [&] {
    ops::Parameter table;
    table.name = "embedding";
    table.value = there(at::zeros({20, 64})).requires_grad_(true);
    table.main_grad = there(at::zeros({20, 64}));
    ops::embedding(there(token), table).backward(there(dy));
    return here(table.main_grad);
  };
  const at::Tensor sum = run();
  EXPECT_LT(test::relative_error(sum, at::zeros({20, 64}, at::kDouble).index_add(0, token, wide(dy))),
            test::tolerance(Made::kSum, at::kFloat));
  for (int repeat = 0; repeat < 5; ++repeat) EXPECT_TRUE(at::equal(sum, run()));
}

}  // namespace
}  // namespace fpdist
