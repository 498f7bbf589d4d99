#include "kernels/linear/mixed_sums.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/common/checks.hpp"
#include "kernels/common/stored.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kColumns = 64;  // of a task: two lines of the cache in every row
constexpr int64_t kRows = 256;    // added in float32 before they go to the float64 sum

bool is_here(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kBFloat16; }

/// Adds `rows` rows of `columns` <= kColumns elements.
FPDIST_CPU_CLONES void add_rows(const uint16_t* x, int64_t rows, int64_t stride, int64_t columns, float* sum) {
  for (int64_t r = 0; r < rows; ++r, x += stride)
    for (int64_t c = 0; c < columns; ++c) sum[c] += loaded(x[c]);
}

FPDIST_CPU_CLONES float product(const uint16_t* x, const float* vector, int64_t size) {
  float lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lane[l] += loaded(x[i + l]) * vector[i + l];
  for (; i < size; ++i) lane[0] += loaded(x[i]) * vector[i];
  float sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += lane[l];
  return sum;
}

}  // namespace

at::Tensor column_sum(const at::Tensor& x) {
  if (!is_here(x)) return at::sum(x, {0}, /*keepdim=*/false, accumulate_dtype_of(x.scalar_type()));
  const at::Tensor in = x.contiguous();
  const int64_t rows = in.size(0), columns = in.size(1);
  at::Tensor sums = at::empty({columns}, in.options().dtype(at::kFloat));
  const uint16_t* from = data<uint16_t>(in);
  float* to = sums.mutable_data_ptr<float>();
  at::parallel_for(0, (columns + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kColumns; first < std::min(columns, end * kColumns); first += kColumns) {
      const int64_t here = std::min(kColumns, columns - first);
      double total[kColumns] = {};
      for (int64_t row = 0; row < rows; row += kRows) {
        float sum[kColumns] = {};
        add_rows(from + row * columns + first, std::min(kRows, rows - row), columns, here, sum);
        for (int64_t c = 0; c < here; ++c) total[c] += static_cast<double>(sum[c]);
      }
      for (int64_t c = 0; c < here; ++c) to[first + c] = static_cast<float>(total[c]);
    }
  });
  return sums;
}

at::Tensor row_products(const at::Tensor& x, const at::Tensor& vector) {
  if (!is_here(x)) return at::mv(x.to(vector.scalar_type()), vector);
  const at::Tensor in = x.contiguous(), with = vector.contiguous();
  at::Tensor products = at::empty({in.size(0)}, with.options());
  const uint16_t* from = data<uint16_t>(in);
  const float* factors = with.const_data_ptr<float>();
  float* to = products.mutable_data_ptr<float>();
  at::parallel_for(0, in.size(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) to[row] = product(from + row * in.size(1), factors, in.size(1));
  });
  return products;
}

}  // namespace fpdist::kernels
