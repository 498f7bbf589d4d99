// A weight that is packed once gives what the product gives that packs it in every call.
#include "kernels/linear/packed_weight.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "kernels/linear/linear.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist {
namespace {

TEST(PackedWeight, GivesWhatTheProductGivesForAnyNumberOfRows) {
  at::manual_seed(3);
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{64, 48}, {320, 128}, {7, 33}, {1, 5}}) {
    const at::Tensor weight = at::randn({out, in}), bias = at::randn({out});
    const auto packed = kernels::pack_weight(weight);
    if (!packed) GTEST_SKIP() << "SKIPPED: this torch has no MKL";
    for (const int64_t rows : {0, 1, 5, 16, 48, 300}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << in << " -> " << out);
      const at::Tensor x = at::randn({in, rows}).t(), residual = at::randn({rows, 2 * out}).narrow(1, out, out);
      for (const bool with_bias : {false, true})
        for (const bool with_residual : {false, true}) {
          const auto added = with_bias ? std::optional(bias) : std::nullopt;
          const auto also = with_residual ? std::optional(residual) : std::nullopt;
          const at::Tensor y = kernels::packed_linear(x, *packed, added, also);
          const at::Tensor wanted = kernels::linear(x, weight, added, std::nullopt, std::nullopt, also);
          ASSERT_EQ(y.sizes(), wanted.sizes());
          EXPECT_LT(test::relative_error(y, wanted), 1e-6);
          if (rows % 16 == 0 && in % 16 == 0 && out % 16 == 0) {
            EXPECT_TRUE(at::equal(y, wanted)) << "bit for bit";
          }
          EXPECT_FALSE(y.is_alias_of(residual));
        }
    }
  }
}

TEST(PackedWeight, DoesNotChangeWithTheWeight) {
  at::Tensor weight = at::randn({32, 16});
  const at::Tensor x = at::randn({16, 16}), before = at::mm(x, weight.t());
  const auto packed = kernels::pack_weight(weight);
  if (!packed) GTEST_SKIP() << "SKIPPED: this torch has no MKL";
  weight.zero_();
  EXPECT_LT(test::relative_error(kernels::packed_linear(x, *packed), before), 1e-6);
}

TEST(PackedWeight, IsThereForFloat32MatricesAlone) {
  for (const auto dtype : {at::kDouble, at::kBFloat16})
    EXPECT_EQ(kernels::pack_weight(at::ones({4, 4}, dtype)), nullptr);
  EXPECT_EQ(kernels::pack_weight(at::ones({4})), nullptr);
  EXPECT_EQ(kernels::pack_weight(at::ones({0, 4})), nullptr);
  const auto packed = kernels::pack_weight(at::ones({4, 3}));
  if (!packed) GTEST_SKIP() << "SKIPPED: this torch has no MKL";
  EXPECT_THROW(kernels::packed_linear(at::ones({2, 4}), *packed), ShapeError);
  EXPECT_THROW(kernels::packed_linear(at::ones({2, 3}, at::kDouble), *packed), ShapeError);
  EXPECT_THROW(kernels::packed_linear(at::ones({2, 3}), *packed, std::nullopt, at::ones({3, 4})), ShapeError);
}

}  // namespace
}  // namespace fpdist
