// CPU twin of swiglu: one pass over memory each way; the sigmoid is recomputed in backward.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/common/checks.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/swiglu/swiglu_loops.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kElementsPerTask = 16384;

at::Tensor swiglu_cpu(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  const auto dtype = accumulate_dtype_of(gate.scalar_type());
  const at::Tensor g = gate.to(dtype).contiguous(), u = up.to(dtype).contiguous();
  at::Tensor y = at::empty_like(g);
  AT_DISPATCH_FLOATING_TYPES(dtype, "swiglu", [&] {
    const scalar_t *from_g = g.const_data_ptr<scalar_t>(), *from_u = u.const_data_ptr<scalar_t>();
    scalar_t* to = y.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, g.numel(), kElementsPerTask, [&](int64_t begin, int64_t end) {
      swiglu_loop(from_g + begin, from_u + begin, to + begin, end - begin);
    });
  });
  return y.to(gate.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward_cpu(const at::Tensor& grad_out, const at::Tensor& gate,
                                                       const at::Tensor& up) {
  check_swiglu_backward(grad_out, gate, up);
  const auto dtype = accumulate_dtype_of(gate.scalar_type());
  const at::Tensor g = gate.to(dtype).contiguous(), u = up.to(dtype).contiguous();
  const at::Tensor dy = grad_out.to(dtype).contiguous();
  at::Tensor dg = at::empty_like(g), du = at::empty_like(g);
  AT_DISPATCH_FLOATING_TYPES(dtype, "swiglu_backward", [&] {
    const scalar_t *from_g = g.const_data_ptr<scalar_t>(), *from_u = u.const_data_ptr<scalar_t>();
    const scalar_t* grad = dy.const_data_ptr<scalar_t>();
    scalar_t *to_g = dg.mutable_data_ptr<scalar_t>(), *to_u = du.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, g.numel(), kElementsPerTask, [&](int64_t begin, int64_t end) {
      swiglu_backward_loop(grad + begin, from_g + begin, from_u + begin, to_g + begin, to_u + begin, end - begin);
    });
  });
  return {dg.to(gate.scalar_type()), du.to(gate.scalar_type())};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("swiglu", fpdist::kernels::swiglu_cpu);
  m.impl("swiglu_backward", fpdist::kernels::swiglu_backward_cpu);
}
