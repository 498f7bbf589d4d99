#include "kernels/linear/linear_composed.hpp"

#include <ATen/ATen.h>

#include "kernels/common/checks.hpp"
#include "kernels/linear/gemm_call.hpp"

namespace fpdist::kernels {

at::Tensor composed_linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           const at::Tensor& residual) {
  at::Tensor y = residual.to(accumulate_dtype_of(x.scalar_type()), /*non_blocking=*/false, /*copy=*/true,
                             at::MemoryFormat::Contiguous);
  if (bias) y.add_(*bias);
  aten_product(x, false, weight, true, y, /*accumulates=*/true);
  return y.to(x.scalar_type());
}

}  // namespace fpdist::kernels
