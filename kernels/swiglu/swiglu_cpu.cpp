// CPU twin of swiglu: one pass over memory each way; the sigmoid is recomputed in backward.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/common/checks.hpp"
#include "kernels/common/stored.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/swiglu/swiglu_loops.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kElementsPerTask = 16384;

at::Tensor swiglu_cpu(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  const at::Tensor g = gate.contiguous(), u = up.contiguous();
  at::Tensor y = at::empty_like(g);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, g.scalar_type(), "swiglu", [&] {
    using S = Stored<scalar_t>;
    const S *from_g = data<S>(g), *from_u = data<S>(u);
    S* to = mutable_data<S>(y);
    at::parallel_for(0, g.numel(), kElementsPerTask, [&](int64_t begin, int64_t end) {
      swiglu_loop(from_g + begin, from_u + begin, to + begin, end - begin);
    });
  });
  return y;
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward_cpu(const at::Tensor& grad_out, const at::Tensor& gate,
                                                       const at::Tensor& up) {
  check_swiglu_backward(grad_out, gate, up);
  const at::Tensor g = gate.contiguous(), u = up.contiguous(), dy = grad_out.contiguous();
  at::Tensor dg = at::empty_like(g), du = at::empty_like(g);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, g.scalar_type(), "swiglu_backward", [&] {
    using S = Stored<scalar_t>;
    const S *from_g = data<S>(g), *from_u = data<S>(u), *grad = data<S>(dy);
    S *to_g = mutable_data<S>(dg), *to_u = mutable_data<S>(du);
    at::parallel_for(0, g.numel(), kElementsPerTask, [&](int64_t begin, int64_t end) {
      swiglu_backward_loop(grad + begin, from_g + begin, from_u + begin, to_g + begin, to_u + begin, end - begin);
    });
  });
  return {dg, du};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("swiglu", fpdist::kernels::swiglu_cpu);
  m.impl("swiglu_backward", fpdist::kernels::swiglu_backward_cpu);
}
