#pragma once
// linear: the CPU's Product (gemm_call.hpp).

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

/// d (+)= op(a) op(b), as kernels::Product says. bfloat16 into float32 by MKL's product of just that, where torch
/// brings it: nothing is widened, and sums are of float32. Everything else as aten_product.
void host_product(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, at::Tensor& d,
                  bool accumulates);

}  // namespace fpdist::kernels
