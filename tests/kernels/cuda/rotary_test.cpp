// rotary's kernel on the PTX machine.
#include <gtest/gtest.h>

#include "kernels/rotary/cuda/rotary_kernel.hpp"
#include "tests/kernels/cuda/matrix.hpp"

namespace fpdist::kernels {
namespace {

using test::fresh_launches, test::launches, test::Matrix;

struct Layout {
  int64_t rows;
  int heads, half;
  int64_t gap = 0;  ///< between rows
};
const std::vector<Layout> kLayouts = {{1, 1, 1},     {3, 2, 3},     {5, 3, 8},   {7, 28, 64}, {2, 9, 32}, {0, 2, 8},
                                      {4, 5, 64, 8}, {4, 5, 64, 1}, {33, 4, 16}, {3, 5, 128}, {2, 3, 12}, {300, 1, 4}};

/// Heads side by side in a row.
struct Case {
  Element element;
  Layout at;
  Matrix x, cos, sin, out;
  Case(Element element, const Layout& at)
      : element(element),
        at(at),
        x(element, at.rows, at.heads * 2 * at.half, 1, at.gap),
        cos(Element::kFloat32, at.rows, at.half, 2),
        sin(Element::kFloat32, at.rows, at.half, 3),
        out(element, at.rows, at.heads * 2 * at.half) {
    // Depths past 100,000: the angles are the table's, as exact as float32 holds them.
    for (int64_t r = 0; r < at.rows; ++r)
      for (int64_t i = 0; i < at.half; ++i) {
        const double angle = static_cast<double>(100000 + 977 * r) / std::pow(1e4, static_cast<double>(i) / at.half);
        cos.set(r, i, static_cast<float>(std::cos(angle))), sin.set(r, i, static_cast<float>(std::sin(angle)));
      }
  }
  void run(bool is_inverse) {
    const RotaryArguments arguments{.x = x.data(),
                                    .cos = static_cast<const float*>(cos.data()),
                                    .sin = static_cast<const float*>(sin.data()),
                                    .out = out.data(),
                                    .rows = at.rows,
                                    .row_stride = x.stride(),
                                    .head_stride = 2 * at.half,
                                    .heads = at.heads,
                                    .half = at.half,
                                    .is_inverse = is_inverse};
    ASSERT_EQ(launch_rotary(arguments, element, nullptr), cudaSuccess);
  }
  double expected(int64_t row, int64_t column, double sign) const {
    const int64_t in_head = column % (2 * at.half), i = in_head % at.half;
    const double other = x.at(row, in_head < at.half ? column + at.half : column - at.half);
    return x.at(row, column) * cos.at(row, i) + (in_head < at.half ? -sign : sign) * other * sin.at(row, i);
  }
};

class Rotary : public testing::TestWithParam<Element> {};

TEST_P(Rotary, TurnsForthAndBackInEveryLayout) {
  for (const Layout& at : kLayouts)
    for (const bool is_inverse : {false, true}) {
      SCOPED_TRACE(testing::Message() << at.rows << " x " << at.heads << " x 2 * " << at.half << " gap " << at.gap);
      fresh_launches();
      Case one(GetParam(), at);
      one.run(is_inverse);
      EXPECT_LT(test::error_of(one.out, [&](int64_t r, int64_t c) { return one.expected(r, c, is_inverse ? -1 : 1); }),
                test::rounding(GetParam()));
    }
}

TEST_P(Rotary, GivesTheSameBitsInEveryOrder) {
  std::vector<std::vector<float>> results;
  for (const uint64_t seed : {0, 1, 2}) {
    fresh_launches(seed);
    Case one(GetParam(), {33, 5, 16});
    one.run(false);
    results.push_back(one.out.values());
  }
  EXPECT_TRUE(results[1] == results[0] && results[2] == results[0]);
}

// x is read once and written once; a row's angles are asked for once by every four heads.
TEST_P(Rotary, MovesWholeSectors) {
  const Layout at{16, 8, 64};
  fresh_launches();
  Case one(GetParam(), at);
  one.run(false);
  const int64_t bytes = at.rows * at.heads * 2 * at.half * bytes_of(GetParam()), table = 2 * at.rows * at.half * 4;
  EXPECT_EQ(launches().counters.launches, 1u);
  EXPECT_EQ(launches().counters.global_bytes, static_cast<uint64_t>(2 * bytes + 2 * table));
  EXPECT_LE(launches().counters.global_sectors, static_cast<uint64_t>((2 * bytes + 4 * table) / 32));
}

INSTANTIATE_TEST_SUITE_P(Elements, Rotary, testing::Values(Element::kFloat32, Element::kBFloat16));

}  // namespace
}  // namespace fpdist::kernels
