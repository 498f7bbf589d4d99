#include "kernels/common/vector_math.hpp"

#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace fpdist::kernels {
namespace {

TEST(VectorExp, StaysWithinItsStatedErrorOverItsRange) {
  double worst = 0;
  for (float x = -87.0f; x <= 88.0f; x += 0.00137f) {
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(vector_exp(x)) - exact) / exact);
  }
  EXPECT_LT(worst, 2e-7);
}

TEST(VectorExp, HandlesTheEnds) {
  EXPECT_EQ(vector_exp(0.0f), 1.0f);
  EXPECT_EQ(vector_exp(-1e30f), 0.0f);
  EXPECT_EQ(vector_exp(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_TRUE(std::isnan(vector_exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Stored, Bfloat16IsRoundedAsTorchDoes) {
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 40'503) {  // every exponent, ties and what is no number
    for (const uint32_t low : {uint32_t{0}, uint32_t{0x8000}}) {
      const auto x =
          std::bit_cast<float>((static_cast<uint32_t>(bits) & 0xffff0000) | low | static_cast<uint32_t>(bits & 1));
      const c10::BFloat16 torch(x);
      if (std::isnan(x))
        EXPECT_TRUE(std::isnan(loaded(stored<uint16_t>(x))));
      else
        EXPECT_EQ(stored<uint16_t>(x), torch.x) << std::hexfloat << x;
      EXPECT_EQ(std::bit_cast<uint32_t>(loaded(torch.x)), std::bit_cast<uint32_t>(static_cast<float>(torch)));
    }
  }
}

}  // namespace
}  // namespace fpdist::kernels
