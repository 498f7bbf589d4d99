// Products whose bits for a row are that row's alone: what invariant generation is made of, on the shapes of models.
#include "src/ops/batch_invariant.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "fpdist/ops/parameter.hpp"
#include "src/ops/mean_logits.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::ops {
namespace {

/// (inputs, outputs): widths of small and large models, odd ones.
constexpr std::pair<int64_t, int64_t> kShapes[] = {{96, 416},   {512, 1536}, {896, 151},
                                                   {1536, 512}, {1000, 77},  {4096, 300}};

class InvariantProducts : public ::testing::TestWithParam<bool> {};

TEST_P(InvariantProducts, RoundARowAlikeAmongPanelsAndTheirMultiples) {
  const bool is_packed = GetParam();
  const int before = at::get_num_threads();
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const auto& [in, out] : kShapes) {
      if (is_packed && dtype != at::kFloat) continue;  // nothing else is
      SCOPED_TRACE(testing::Message() << dtype << ", " << in << " -> " << out);
      at::manual_seed(static_cast<uint64_t>(in + out));
      const int64_t rows = 2 * kInvariantRows + kInvariantPanel;
      const at::Tensor x = at::randn({rows, in}).to(dtype);
      Parameter weight, bias;
      weight.value = at::randn({out, in}).to(dtype), bias.value = at::randn({out}).to(dtype);
      at::set_num_threads(1);
      if (is_packed) pack_by_parts(weight);
      if (is_packed && !weight.packed) GTEST_SKIP() << "SKIPPED: this torch has no MKL";
      const at::Tensor y = invariant_linear(x, weight, &bias, {});
      const at::Tensor all = logits(x.narrow(0, 0, kInvariantRows), weight);
      const at::Tensor exact =
          at::addmm(bias.value.to(at::kDouble), x.to(at::kDouble), weight.value.to(at::kDouble).t());
      EXPECT_LT(test::relative_error(y.to(at::kDouble), exact), dtype == at::kFloat ? 1e-6 : 1e-2);
      const at::Tensor sum = at::randn({rows, 2 * out}).narrow(1, 0, out).to(dtype);
      const at::Tensor added = invariant_linear(x, weight, nullptr, sum);
      for (const int threads : {1, 2, 3}) {
        at::set_num_threads(threads);
        for (int64_t row = 0; row < rows; row += kInvariantPanel) {
          const at::Tensor part = x.narrow(0, row, kInvariantPanel);
          EXPECT_TRUE(at::equal(invariant_linear(part, weight, &bias, {}), y.narrow(0, row, kInvariantPanel)))
              << "rows from " << row << ", " << threads << " threads";
          EXPECT_TRUE(at::equal(invariant_linear(part, weight, nullptr, sum.narrow(0, row, kInvariantPanel)),
                                added.narrow(0, row, kInvariantPanel)))
              << "on residuals, rows from " << row << ", " << threads << " threads";
          if (row >= kInvariantRows) continue;
          EXPECT_TRUE(at::equal(logits(part, weight), all.narrow(0, row, kInvariantPanel)))
              << "logits from " << row << ", " << threads << " threads";
        }
      }
    }
  at::set_num_threads(before);
}

INSTANTIATE_TEST_SUITE_P(Weights, InvariantProducts, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Packed" : "AsTheyLie"; });

}  // namespace
}  // namespace fpdist::ops
