#pragma once
// Test values that tell ranks, indices and orders of summation apart.

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/support/ranks/transport.hpp"

namespace fpdist::test {

inline at::TensorOptions options_of(at::ScalarType dtype) { return at::TensorOptions(dtype).device(where()); }
inline at::Tensor zeros(at::IntArrayRef sizes, at::ScalarType dtype) { return at::zeros(sizes, options_of(dtype)); }
inline at::Tensor ones(at::IntArrayRef sizes, at::ScalarType dtype) { return at::ones(sizes, options_of(dtype)); }
inline at::Tensor full(at::IntArrayRef sizes, const at::Scalar& value, at::ScalarType dtype) {
  return at::full(sizes, value, options_of(dtype));
}

inline const std::vector<at::ScalarType> kDtypes = {at::kFloat, at::kDouble, at::kBFloat16,
                                                    at::kInt,   at::kLong,   at::kByte};

/// `count` values of `rank`: every (rank, index) its own in the wide dtypes; magnitudes so far apart that a float sum
/// in another order has other bits.
inline at::Tensor values_of(int rank, int64_t count, at::ScalarType dtype) {
  at::Tensor wide = at::empty({count}, at::kDouble);
  double* data = wide.data_ptr<double>();
  const bool is_integer = !at::isFloatingType(dtype);
  for (int64_t i = 0; i < count; ++i) {
    data[i] = is_integer
                  ? 100003.0 * (rank + 1) + static_cast<double>(i)
                  : std::sin(1000.0 * (rank + 1) + static_cast<double>(i)) * std::pow(10.0, (i + 3 * rank) % 8 - 4);
  }
  return (dtype == at::kByte ? wide.to(at::kLong).remainder(251).to(at::kByte) : wide.to(dtype)).to(where());
}

/// Sum over ranks in ascending order, bfloat16 in float32 and rounded once.
inline at::Tensor ascending_sum(int ranks, int64_t count, at::ScalarType dtype) {
  const at::ScalarType sum_dtype = dtype == at::kBFloat16 ? at::kFloat : dtype;
  at::Tensor sum = values_of(0, count, dtype).to(sum_dtype);
  for (int rank = 1; rank < ranks; ++rank) sum = sum + values_of(rank, count, dtype).to(sum_dtype);
  return sum.to(dtype);
}

/// Whether `sum` is what ranks add up to: bit for bit, and through NCCL, which adds in its own order, as near as
/// rounding allows.
inline bool is_sum(const at::Tensor& sum, const at::Tensor& expected, int ranks) {
  if (transport() != Transport::kNccl || !sum.is_floating_point()) return at::equal(sum, expected);
  const double unit = sum.scalar_type() == at::kBFloat16 ? 0x1p-8 : sum.scalar_type() == at::kFloat ? 0x1p-23 : 0x1p-52;
  return sum.sizes() == expected.sizes() && at::allclose(sum, expected, unit, unit * ranks * 1e4);
}

/// Ragged counts, one of them (at least) zero when there are several ranks.
inline std::vector<int64_t> ragged_counts(int ranks, int64_t unit) {
  std::vector<int64_t> counts(ranks);
  for (int rank = 0; rank < ranks; ++rank) counts[rank] = unit * ((rank * 2 + 1) % ranks) + (rank == 0 ? 0 : rank % 2);
  if (ranks == 1) counts[0] = unit;
  return counts;
}

}  // namespace fpdist::test
