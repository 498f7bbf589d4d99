#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fpdist/ops/functional.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/swiglu/swiglu.hpp"

namespace fpdist::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Rotary : torch::autograd::Function<Rotary> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                            bool inverse) {
    const at::AutoDispatchBelowAutograd below;
    context->save_for_backward({cos, sin});
    context->saved_data["inverse"] = inverse;
    return kernels::rotary(x, cos, sin, inverse);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    return {kernels::rotary(grads[0], saved[0], saved[1], !context->saved_data["inverse"].toBool()), {}, {}, {}};
  }
};

struct SwiGlu : torch::autograd::Function<SwiGlu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    const at::AutoDispatchBelowAutograd below;
    context->save_for_backward({gate, up});
    return kernels::swiglu(gate, up);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    auto [d_gate, d_up] = kernels::swiglu_backward(grads[0], saved[0], saved[1]);
    return {d_gate, d_up};
  }
};

at::Tensor rotary_autograd(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  return Rotary::apply(x, cos, sin, inverse);
}
at::Tensor swiglu_autograd(const at::Tensor& gate, const at::Tensor& up) { return SwiGlu::apply(gate, up); }

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) { return kernels::swiglu(gate, up); }

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  return kernels::rotary(x, cos, sin, false);
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) {
  m.impl("rotary", fpdist::ops::rotary_autograd);
  m.impl("swiglu", fpdist::ops::swiglu_autograd);
}
