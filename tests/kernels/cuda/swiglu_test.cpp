// swiglu's kernels on the PTX machine: right for every row count, width and stride, the same bits whatever the order of
// warps and blocks, and not a byte moved in vain.
#include <gtest/gtest.h>

#include "kernels/swiglu/cuda/swiglu_kernel.hpp"
#include "tests/kernels/cuda/matrix.hpp"

namespace fpdist::kernels {
namespace {

using test::fresh_launches, test::launches, test::Matrix;

struct Layout {
  int64_t rows, width, gap = 0, shift = 0;
};
/// Dense and not, multiples of a vector and not, more than a block and less than a vector.
const std::vector<Layout> kLayouts = {{1, 1},     {3, 7},       {2, 8},      {5, 64},       {1, 2051},
                                      {4, 64, 8}, {4, 64, 1},   {3, 66, 6},  {2, 40, 0, 8}, {2, 40, 0, 1},
                                      {0, 8},     {3, 2048, 8}, {7, 300, 4}, {70, 3, 1, 0}};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Backward {
  Matrix dy, gate, up, d_gate, d_up;
  Backward(Element element, const Layout& at)
      : dy(element, at.rows, at.width, 1, at.gap, at.shift),
        gate(element, at.rows, at.width, 2, at.gap),
        up(element, at.rows, at.width, 3, 2 * at.gap, at.shift),
        d_gate(element, at.rows, at.width),
        d_up(element, at.rows, at.width) {}
  void run(Element element) {
    const SwigluBackwardArguments arguments{dy.data(), gate.data(), up.data(),   d_gate.data(), d_up.data(),
                                            dy.rows(), dy.width(),  dy.stride(), gate.stride(), up.stride()};
    ASSERT_EQ(launch_swiglu_backward(arguments, element, nullptr), cudaSuccess);
  }
};

void run_forward(Element element, const Matrix& gate, const Matrix& up, Matrix& out) {
  const SwigluArguments arguments{gate.data(),  up.data(),     out.data(), gate.rows(),
                                  gate.width(), gate.stride(), up.stride()};
  ASSERT_EQ(launch_swiglu(arguments, element, nullptr), cudaSuccess);
}

class Swiglu : public testing::TestWithParam<Element> {};

TEST_P(Swiglu, ForwardIsItsFormulaInEveryLayout) {
  for (const Layout& at : kLayouts) {
    SCOPED_TRACE(testing::Message() << at.rows << " x " << at.width << " gap " << at.gap << " shift " << at.shift);
    fresh_launches();
    const Matrix gate(GetParam(), at.rows, at.width, 1, at.gap, at.shift), up(GetParam(), at.rows, at.width, 2, at.gap);
    Matrix out(GetParam(), at.rows, at.width);
    run_forward(GetParam(), gate, up, out);
    const auto formula = [&](int64_t r, int64_t c) { return gate.at(r, c) * sigmoid(gate.at(r, c)) * up.at(r, c); };
    EXPECT_LT(test::error_of(out, formula), test::rounding(GetParam()));
  }
}

TEST_P(Swiglu, BackwardIsItsFormulaInEveryLayout) {
  for (const Layout& at : kLayouts) {
    SCOPED_TRACE(testing::Message() << at.rows << " x " << at.width << " gap " << at.gap << " shift " << at.shift);
    fresh_launches();
    Backward b(GetParam(), at);
    b.run(GetParam());
    EXPECT_LT(
        test::error_of(
            b.d_up, [&](int64_t r, int64_t c) { return b.dy.at(r, c) * b.gate.at(r, c) * sigmoid(b.gate.at(r, c)); }),
        test::rounding(GetParam()));
    EXPECT_LT(test::error_of(b.d_gate,
                             [&](int64_t r, int64_t c) {
                               const double g = b.gate.at(r, c), s = sigmoid(g);
                               return b.dy.at(r, c) * b.up.at(r, c) * s * (1 + g * (1 - s));
                             }),
              test::rounding(GetParam()));
  }
}

TEST_P(Swiglu, ExtremeGatesStayFinite) {
  fresh_launches();
  Backward b(GetParam(), {1, 8});
  const float gate[] = {-1e4f, -200, -100, -88, 0, 88, 200, 1e4f};
  for (int i = 0; i < 8; ++i) b.gate.set(0, i, gate[i]), b.up.set(0, i, 1), b.dy.set(0, i, 1);
  b.run(GetParam());
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(std::isfinite(b.d_gate.at(0, i)) && std::isfinite(b.d_up.at(0, i))) << gate[i];
    EXPECT_NEAR(b.d_up.at(0, i), std::max(b.gate.at(0, i), 0.0f), 1e-3) << gate[i];
  }
}

TEST_P(Swiglu, GivesTheSameBitsInEveryOrder) {
  std::vector<std::vector<float>> results;
  for (const uint64_t seed : {0, 1, 2}) {
    fresh_launches(seed);
    Backward b(GetParam(), {9, 520, 8});
    b.run(GetParam());
    results.push_back(b.d_gate.values());
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

TEST_P(Swiglu, MovesEveryByteOnceInWholeSectors) {
  const int64_t rows = 16, width = 1024, bytes = rows * width * bytes_of(GetParam());
  fresh_launches();
  const Matrix gate(GetParam(), rows, width, 1), up(GetParam(), rows, width, 2);
  Matrix out(GetParam(), rows, width);
  run_forward(GetParam(), gate, up, out);
  EXPECT_EQ(launches().counters.launches, 1u);
  EXPECT_EQ(launches().counters.global_bytes, 3u * bytes);
  EXPECT_EQ(launches().counters.global_sectors, 3u * bytes / 32);
  EXPECT_EQ(launches().counters.global_requests, 3u * bytes / 512);  // 16 bytes a lane
  fresh_launches();
  Backward b(GetParam(), {rows, width});
  b.run(GetParam());
  EXPECT_EQ(launches().counters.global_sectors, 5u * bytes / 32);
  EXPECT_EQ(launches().counters.global_requests, 5u * bytes / 512);
}

INSTANTIATE_TEST_SUITE_P(Elements, Swiglu, testing::Values(Element::kFloat32, Element::kBFloat16));

}  // namespace
}  // namespace fpdist::kernels
