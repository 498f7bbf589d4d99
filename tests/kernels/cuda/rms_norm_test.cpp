// rms_norm's kernels on the PTX machine: right for narrow and wide rows, whole and partial blocks; the same bits
// whatever the order of warps and blocks; what they move.
#include <gtest/gtest.h>

#include "kernels/rms_norm/cuda/rms_norm_kernel.hpp"
#include "tests/kernels/cuda/matrix.hpp"

namespace fpdist::kernels {
namespace {

using test::fresh_launches, test::launches, test::Matrix;

constexpr float kEps = 1e-6f;

struct Layout {
  int64_t rows, width, gap = 0, shift = 0;
};
/// Rows of one lane, of part of a warp, of a warp, of several; more rows than blocks for partial sums hold at once.
const std::vector<Layout> kLayouts = {{1, 1},   {5, 7},       {3, 64},    {17, 70},      {9, 128},      {33, 256},
                                      {4, 520}, {6, 1024, 8}, {3, 1100},  {2, 3584},     {0, 64},       {1100, 64},
                                      {7, 384}, {3, 5120},    {5, 64, 1}, {5, 64, 0, 8}, {5, 64, 0, 1}, {530, 520}};

struct Case {
  Element element;
  Matrix x, dy, weight, y, dx, dw;
  Case(Element element, const Layout& at)
      : element(element),
        x(element, at.rows, at.width, 1, at.gap, at.shift),
        dy(element, at.rows, at.width, 2, 2 * at.gap),
        weight(element, 1, at.width, 3),
        y(element, at.rows, at.width),
        dx(element, at.rows, at.width),
        dw(Element::kFloat32, 1, at.width) {}

  bool is_aligned() const {
    return fits_vectors(x.data(), x.stride(), element) && fits_vectors(dy.data(), dy.stride(), element);
  }
  RmsNormShape shape() const { return shape_of_rms_norm(x.rows(), x.width(), element, is_aligned()); }
  void forward() {
    const RmsNormArguments arguments{x.data(), weight.data(), y.data(), x.rows(), x.stride(), width(), kEps};
    ASSERT_EQ(launch_rms_norm(arguments, shape(), nullptr), cudaSuccess);
  }
  void backward() {
    const Matrix partial(Element::kFloat32, shape().blocks, x.width());
    const RmsNormBackwardArguments arguments{dy.data(),
                                             x.data(),
                                             weight.data(),
                                             dx.data(),
                                             static_cast<float*>(partial.data()),
                                             static_cast<float*>(dw.data()),
                                             x.rows(),
                                             dy.stride(),
                                             x.stride(),
                                             width(),
                                             kEps};
    ASSERT_EQ(launch_rms_norm_backward(arguments, shape(), nullptr), cudaSuccess);
  }
  uint32_t width() const { return static_cast<uint32_t>(x.width()); }

  double scale(int64_t row) const {
    double sum = 0;
    for (int64_t c = 0; c < x.width(); ++c) sum += double{x.at(row, c)} * x.at(row, c);
    return 1 / std::sqrt(sum / static_cast<double>(x.width()) + kEps);
  }
  double normed(int64_t row, int64_t column) const {  // rounded to the element, as Transformers does
    const auto value = static_cast<float>(x.at(row, column) * scale(row));
    return element == Element::kFloat32 ? value : ptx::from_bfloat16(ptx::to_bfloat16(value));
  }
  double pull(int64_t row) const {
    double sum = 0;
    for (int64_t c = 0; c < x.width(); ++c) sum += double{dy.at(row, c)} * weight.at(0, c) * x.at(row, c);
    return sum * std::pow(scale(row), 3) / static_cast<double>(x.width());
  }
};

class RmsNorm : public testing::TestWithParam<Element> {
 protected:
  /// Two roundings, and what float32 loses in a sum.
  double tolerance() const { return GetParam() == Element::kFloat32 ? 1e-5 : 2.0 / 256 + 1e-4; }
};

TEST_P(RmsNorm, ForwardIsItsFormulaInEveryLayout) {
  for (const Layout& at : kLayouts) {
    if (at.rows > 100 && at.width > 64) continue;
    SCOPED_TRACE(testing::Message() << at.rows << " x " << at.width << " gap " << at.gap << " shift " << at.shift);
    fresh_launches();
    Case one(GetParam(), at);
    one.forward();
    std::vector<double> scale;
    for (int64_t row = 0; row < at.rows; ++row) scale.push_back(one.scale(row));
    EXPECT_LT(test::error_of(one.y,
                             [&](int64_t r, int64_t c) {
                               return one.weight.at(0, c) * (one.x.at(r, c) * scale[static_cast<size_t>(r)]);
                             }),
              tolerance());
  }
}

TEST_P(RmsNorm, BackwardIsItsFormulaInEveryLayout) {
  for (const Layout& at : kLayouts) {
    SCOPED_TRACE(testing::Message() << at.rows << " x " << at.width << " gap " << at.gap << " shift " << at.shift);
    fresh_launches();
    Case one(GetParam(), at);
    one.backward();
    std::vector<double> scale, pull;
    for (int64_t row = 0; row < at.rows; ++row) scale.push_back(one.scale(row)), pull.push_back(one.pull(row));
    EXPECT_LT(test::error_of(one.dx,
                             [&](int64_t r, int64_t c) {
                               const auto row = static_cast<size_t>(r);
                               return scale[row] * one.dy.at(r, c) * one.weight.at(0, c) - pull[row] * one.x.at(r, c);
                             }),
              tolerance());
    std::vector<double> dw(static_cast<size_t>(at.width));
    for (int64_t c = 0; c < at.width; ++c)
      for (int64_t r = 0; r < at.rows; ++r)
        dw[static_cast<size_t>(c)] += one.dy.at(r, c) * (one.x.at(r, c) * scale[static_cast<size_t>(r)]);
    EXPECT_LT(test::error_of(one.dw, [&](int64_t, int64_t c) { return dw[static_cast<size_t>(c)]; }), tolerance());
  }
}

TEST_P(RmsNorm, GivesTheSameBitsInEveryOrder) {
  for (const Layout& at : {Layout{9, 128}, Layout{6, 1024, 8}, Layout{1100, 64}}) {
    std::vector<std::vector<float>> dx, dw;
    for (const uint64_t seed : {0, 1, 2}) {
      fresh_launches(seed);
      Case one(GetParam(), at);
      one.backward();
      dx.push_back(one.dx.values()), dw.push_back(one.dw.values());
    }
    EXPECT_TRUE(dx[1] == dx[0] && dx[2] == dx[0]) << at.rows << " x " << at.width;
    EXPECT_TRUE(dw[1] == dw[0] && dw[2] == dw[0]) << at.rows << " x " << at.width;
  }
}

// Rows are read once and written once; weights come from the L1 once they are there, which the counters of requests do
// not see: forward's warps ask for them with their rows, backward's once.
TEST_P(RmsNorm, ReadsRowsOnceAndWritesThemOnce) {
  const int64_t rows = 24, width = 512;
  const int64_t row_sectors = width * bytes_of(GetParam()) / 32, partial_sectors = width * 4 / 32;
  fresh_launches();
  Case one(GetParam(), {rows, width});
  const RmsNormShape shape = one.shape();
  const int64_t rows_in_warp = std::max(1, 32 / shape.lanes);
  one.forward();
  EXPECT_EQ(launches().counters.global_sectors, static_cast<uint64_t>((2 * rows + rows / rows_in_warp) * row_sectors));
  EXPECT_EQ(launches().counters.least_sectors, launches().counters.global_sectors);
  fresh_launches();
  Case other(GetParam(), {rows, width});
  other.backward();
  const int64_t weights = shape.blocks * shape.rows_in_block / rows_in_warp;
  EXPECT_EQ(launches().counters.launches, 2u);
  EXPECT_EQ(launches().counters.global_sectors,
            static_cast<uint64_t>((3 * rows + weights) * row_sectors + (2 * shape.blocks + 1) * partial_sectors));
}

INSTANTIATE_TEST_SUITE_P(Elements, RmsNorm, testing::Values(Element::kFloat32, Element::kBFloat16));

TEST(RmsNormShape, IsAFunctionOfTheShapeAndSaysWhatDoesNotFit) {
  const auto lanes = [](int64_t width, Element element, bool is_aligned = true) {
    return shape_of_rms_norm(8192, width, element, is_aligned).lanes;
  };
  EXPECT_EQ(lanes(128, Element::kBFloat16), 8);
  EXPECT_EQ(lanes(3584, Element::kBFloat16), 128);  // 448 vectors, four a lane, whole warps
  EXPECT_EQ(lanes(5120, Element::kBFloat16), 160);
  EXPECT_EQ(lanes(16384, Element::kBFloat16), 512);
  EXPECT_EQ(lanes(16392, Element::kBFloat16), 0);
  EXPECT_EQ(lanes(8192, Element::kFloat32), 512);
  EXPECT_EQ(lanes(8196, Element::kFloat32), 0);
  EXPECT_EQ(lanes(2048, Element::kFloat32, false), 512);
  EXPECT_EQ(lanes(2049, Element::kFloat32), 0);
  for (const int64_t rows : {0, 1, 100, 8192, 1000000}) {
    const RmsNormShape shape = shape_of_rms_norm(rows, 128, Element::kBFloat16, true);
    EXPECT_LE(shape.blocks, 528);
    EXPECT_LE(shape.blocks * shape.rows_in_block, rows + shape.rows_in_block - 1);
  }
}

}  // namespace
}  // namespace fpdist::kernels
