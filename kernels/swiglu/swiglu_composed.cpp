#include "kernels/swiglu/swiglu_composed.hpp"

#include <ATen/ATen.h>

#include "kernels/common/wide.hpp"

namespace fpdist::kernels {

at::Tensor composed_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return at::silu(wide(gate)).mul_(wide(up)).to(gate.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> composed_swiglu_backward(const at::Tensor& grad_out, const at::Tensor& gate,
                                                            const at::Tensor& up) {
  const at::Tensor g = wide(gate), dy = grad_out.to(g.scalar_type()), s = at::sigmoid(g), silu = g * s;
  const at::Tensor d_gate = at::addcmul(s, silu, 1 - s).mul_(dy).mul_(wide(up));
  return {d_gate.to(gate.scalar_type()), (dy * silu).to(gate.scalar_type())};
}

}  // namespace fpdist::kernels
