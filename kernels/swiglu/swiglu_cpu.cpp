// CPU twin of swiglu.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "kernels/checks.hpp"
#include "kernels/swiglu/swiglu.hpp"

namespace fpdist::kernels {
namespace {

void check_pair(const at::Tensor& gate, const at::Tensor& up) {
  check_model_tensor("swiglu", "gate", gate, 2);
  check_dtype("swiglu", "up", up, gate.scalar_type());
  check_sizes("swiglu", "up", up, gate.sizes());
}

at::Tensor swiglu_cpu(const at::Tensor& gate, const at::Tensor& up) {
  check_pair(gate, up);
  const auto dtype = accumulate_dtype_of(gate.scalar_type());
  return at::silu(gate.to(dtype)).mul_(up.to(dtype)).to(gate.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward_cpu(const at::Tensor& grad_out, const at::Tensor& gate,
                                                       const at::Tensor& up) {
  check_pair(gate, up);
  check_sizes("swiglu_backward", "grad_out", grad_out, gate.sizes());
  const auto dtype = accumulate_dtype_of(gate.scalar_type());
  const at::Tensor g = gate.to(dtype), dy = grad_out.to(dtype);
  at::Tensor d_up = at::silu(g).mul_(dy);
  at::Tensor d_gate = at::silu_backward(dy * up.to(dtype), g);
  return {d_gate.to(gate.scalar_type()), d_up.to(gate.scalar_type())};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("swiglu", fpdist::kernels::swiglu_cpu);
  m.impl("swiglu_backward", fpdist::kernels::swiglu_backward_cpu);
}
