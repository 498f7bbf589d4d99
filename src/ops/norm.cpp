#include <ATen/ATen.h>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"

namespace fpdist::ops {

at::Tensor rms_norm(const at::Tensor& x, const Parameter& weight, double eps) {
  check(weight.value.dim() == 1 && x.dim() >= 1 && x.size(-1) == weight.value.size(0), "rms_norm: x ends in ",
        x.dim() ? x.size(-1) : 0, " columns, weight ", weight.name, " has shape ", weight.value.sizes());
  const at::Tensor wide = x.to(accumulate_dtype(x.scalar_type()));
  const at::Tensor scale = at::rsqrt(wide.square().mean(-1, true) + eps);
  return weight.value * (wide * scale).to(x.scalar_type());
}

}  // namespace fpdist::ops
