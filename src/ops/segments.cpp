#include "src/ops/segments.hpp"

#include <ATen/ATen.h>

#include <vector>

namespace fpdist::ops {

// On the CPU index_add goes through the rows in order; elsewhere an accumulating index_put sorts by index first.

at::Tensor pick_rows(const at::Tensor& x, const at::Tensor& index) {
  return x.is_cpu() ? x.index_select(0, index) : x.index({index});
}

at::Tensor sum_rows(const at::Tensor& x, const at::Tensor& index, int64_t rows) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = rows;
  const at::Tensor zeros = at::zeros(shape, x.options().requires_grad(false));
  return x.is_cpu() ? zeros.index_add(0, index, x) : zeros.index_put({index}, x, /*accumulate=*/true);
}

}  // namespace fpdist::ops
