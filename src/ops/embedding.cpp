#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {
namespace {

constexpr int64_t kColumnsPerTask = 64;

/// main[token[i]] += grad[i] in row order: threads share the columns, so every sum has one fixed order.
void add_rows(const at::Tensor& token, const at::Tensor& grad, at::Tensor& main_grad) {
  const at::Tensor ids = token.contiguous(), rows = grad.contiguous();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  const int64_t count = ids.numel(), width = rows.size(1);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, rows.scalar_type(), "embedding", [&] {
    using A = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const scalar_t* from = rows.const_data_ptr<scalar_t>();
    A* to = main_grad.mutable_data_ptr<A>();
    at::parallel_for(0, width, kColumnsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < count; ++i)
        for (int64_t c = begin; c < end; ++c) to[id[i] * width + c] += static_cast<A>(from[i * width + c]);
    });
  });
}

struct Embedding : torch::autograd::Function<Embedding> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& token,
                            const at::Tensor& weight, at::Tensor main_grad) {
    context->save_for_backward({token});
    context->saved_data["main_grad"] = main_grad;
    return weight.index_select(0, token);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    at::Tensor main_grad = context->saved_data["main_grad"].toTensor();
    const at::Tensor token = context->get_saved_variables()[0];
    if (main_grad.is_cpu() && main_grad.is_contiguous())
      add_rows(token, grads[0], main_grad);
    else
      main_grad.index_add_(0, token, grads[0].to(main_grad.scalar_type()));
    return torch::autograd::variable_list(3);
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& token, const Parameter& weight) {
  check(token.dim() == 1 && token.scalar_type() == at::kLong, "embedding: token must be int64 [T]");
  check(weight.value.defined() && weight.value.dim() == 2, "embedding: weight ", weight.name, " must be [V,H]");
  if (!weight.main_grad.defined()) return weight.value.detach().index_select(0, token);
  check(weight.main_grad.scalar_type() == accumulate_dtype(weight.value.scalar_type()), "embedding: main grad of ",
        weight.name, " is ", weight.main_grad.scalar_type(), ", needs the accumulation dtype");
  return Embedding::apply(token, weight.value, weight.main_grad);
}

}  // namespace fpdist::ops
