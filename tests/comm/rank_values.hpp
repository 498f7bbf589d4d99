#pragma once
// Test values that tell ranks, indices and orders of summation apart.

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace fpdist::test {

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
  return dtype == at::kByte ? wide.to(at::kLong).remainder(251).to(at::kByte) : wide.to(dtype);
}

/// Sum over ranks in ascending order, bfloat16 in float32 and rounded once.
inline at::Tensor ascending_sum(int ranks, int64_t count, at::ScalarType dtype) {
  const at::ScalarType sum_dtype = dtype == at::kBFloat16 ? at::kFloat : dtype;
  at::Tensor sum = values_of(0, count, dtype).to(sum_dtype);
  for (int rank = 1; rank < ranks; ++rank) sum = sum + values_of(rank, count, dtype).to(sum_dtype);
  return sum.to(dtype);
}

/// Ragged counts, one of them (at least) zero when there are several ranks.
inline std::vector<int64_t> ragged_counts(int ranks, int64_t unit) {
  std::vector<int64_t> counts(ranks);
  for (int rank = 0; rank < ranks; ++rank) counts[rank] = unit * ((rank * 2 + 1) % ranks) + (rank == 0 ? 0 : rank % 2);
  if (ranks == 1) counts[0] = unit;
  return counts;
}

}  // namespace fpdist::test
