// Products whose bits for a row are that row's alone: what invariant generation is made of, on the shapes of models.
#include "src/ops/batch_invariant.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "src/ops/mean_logits.hpp"

namespace fpdist::ops {
namespace {

/// (inputs, outputs): widths of small and large models, odd ones.
constexpr std::pair<int64_t, int64_t> kShapes[] = {{96, 416},   {512, 1536}, {896, 151},
                                                   {1536, 512}, {1000, 77},  {4096, 300}};

TEST(InvariantProducts, RoundARowAlikeAmongPanelsAndTheirMultiples) {
  const int before = at::get_num_threads();
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const auto& [in, out] : kShapes) {
      SCOPED_TRACE(testing::Message() << dtype << ", " << in << " -> " << out);
      at::manual_seed(static_cast<uint64_t>(in + out));
      const int64_t rows = 2 * kInvariantRows + kInvariantPanel;
      const at::Tensor x = at::randn({rows, in}).to(dtype);
      Parameter weight, bias;
      weight.value = at::randn({out, in}).to(dtype), bias.value = at::randn({out}).to(dtype);
      at::set_num_threads(1);
      const at::Tensor y = invariant_linear(x, weight, &bias, {});
      const at::Tensor all = logits(x.narrow(0, 0, kInvariantRows), weight);
      for (const int threads : {1, 2}) {
        at::set_num_threads(threads);
        for (int64_t row = 0; row < rows; row += kInvariantPanel) {
          const at::Tensor part = x.narrow(0, row, kInvariantPanel);
          EXPECT_TRUE(at::equal(invariant_linear(part, weight, &bias, {}), y.narrow(0, row, kInvariantPanel)))
              << "rows from " << row << ", " << threads << " threads";
          if (row >= kInvariantRows) continue;
          EXPECT_TRUE(at::equal(logits(part, weight), all.narrow(0, row, kInvariantPanel)))
              << "logits from " << row << ", " << threads << " threads";
        }
      }
    }
  at::set_num_threads(before);
}

}  // namespace
}  // namespace fpdist::ops
