#pragma once
// Tests of our kernels: rows of elements in memory of exactly their size, which the machine watches; what lies between
// rows that stand apart was never written.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels/cuda/element.hpp"
#include "tests/emulation/ptx/float16.hpp"
#include "tests/emulation/ptx/state.hpp"
#include "tests/kernels/cuda/launches.hpp"

namespace fpdist::test {

using kernels::Element;

class Matrix {
 public:
  /// rows x width, uninitialised unless `seed`; `gap` elements between rows, `shift` before the first.
  Matrix(Element element, int64_t rows, int64_t width, uint64_t seed = 0, int64_t gap = 0, int64_t shift = 0)
      : element_(element), rows_(rows), width_(width), stride_(width + gap), shift_(shift) {
    const int64_t elements = shift + (rows > 0 ? (rows - 1) * stride_ + width : 0);
    const auto bytes = static_cast<size_t>(elements * kernels::bytes_of(element));
    held_.reset(std::aligned_alloc(256, (bytes + 511) / 256 * 256), std::free);
    std::memset(held_.get(), 0xff, (bytes + 511) / 256 * 256);
    launches().memory.add(held_.get(), bytes, false);
    if (seed == 0) return;
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < width; ++column) set(row, column, normal(random));
  }

  void* data() const { return static_cast<char*>(held_.get()) + shift_ * kernels::bytes_of(element_); }
  int64_t stride() const { return stride_; }
  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }

  float at(int64_t row, int64_t column) const {
    const auto* const place = static_cast<const char*>(data()) + (row * stride_ + column) * kernels::bytes_of(element_);
    uint32_t bits = 0;
    std::memcpy(&bits, place, static_cast<size_t>(kernels::bytes_of(element_)));
    return element_ == Element::kFloat32    ? std::bit_cast<float>(bits)
           : element_ == Element::kBFloat16 ? ptx::from_bfloat16(bits)
                                            : ptx::from_float16(bits);
  }
  /// Rounded to the element, and written as the machine sees it.
  void set(int64_t row, int64_t column, float value) {
    auto* const place = static_cast<char*>(data()) + (row * stride_ + column) * kernels::bytes_of(element_);
    const auto bytes = static_cast<size_t>(kernels::bytes_of(element_));
    const uint32_t bits = element_ == Element::kFloat32    ? std::bit_cast<uint32_t>(value)
                          : element_ == Element::kBFloat16 ? ptx::to_bfloat16(value)
                                                           : ptx::to_float16(value);
    std::memcpy(place, &bits, bytes);
    launches().memory.mark_written(place, bytes);
  }
  /// The same rows with elements of another kind, side by side from where each row begins.
  Matrix seen_as(Element element) const {
    Matrix other = *this;
    other.stride_ = stride_ * kernels::bytes_of(element_) / kernels::bytes_of(element);
    other.element_ = element;
    return other;
  }
  /// Everything that it holds, to compare bits.
  std::vector<float> values() const {
    std::vector<float> all;
    for (int64_t row = 0; row < rows_; ++row)
      for (int64_t column = 0; column < width_; ++column) all.push_back(at(row, column));
    return all;
  }

 private:
  Element element_;
  int64_t rows_, width_, stride_, shift_;
  std::shared_ptr<void> held_;
};

/// The largest difference from `expected(row, column)`, over the largest of these (at least 1); NaN where one is.
template <typename Expected>
double error_of(const Matrix& own, const Expected& expected) {
  double worst = 0, largest = 1;
  for (int64_t row = 0; row < own.rows(); ++row)
    for (int64_t column = 0; column < own.width(); ++column) {
      const double right = expected(row, column), apart = std::fabs(static_cast<double>(own.at(row, column)) - right);
      if (std::isnan(apart)) return apart;
      worst = std::max(worst, apart), largest = std::max(largest, std::fabs(right));
    }
  return worst / largest;
}

/// One rounding of the largest element, and a little for float32's own.
inline double rounding(Element element) {
  return element == Element::kFloat32 ? 1e-6 : element == Element::kBFloat16 ? 1.0 / 256 + 1e-5 : 1.0 / 2048 + 1e-5;
}

}  // namespace fpdist::test
