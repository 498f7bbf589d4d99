#pragma once
// keyed_dropout out of ATen's operations, on any device: what a GPU runs. Arguments are checked already; results as
// keyed_dropout's, bit for bit.

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

at::Tensor composed_keyed_dropout(const at::Tensor& x, const at::Tensor& key, int64_t stream, double p,
                                  int64_t first_column);

}  // namespace fpdist::kernels
