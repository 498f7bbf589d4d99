#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "fpdist/core/error.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::parallel {
namespace {

using Sum = ops::Sharding::Sum;

/// The main grads that want this sum travel as one tensor, in the order of the parameters.
void sum_over(std::span<const ops::ParameterPtr> parameters, Sum sum, comm::Communicator& axis) {
  std::vector<at::Tensor> flat;
  for (const auto& parameter : parameters)
    if (parameter->sharding.sum == sum && parameter->main_grad.defined())
      flat.push_back(parameter->main_grad.reshape({-1}));
  if (flat.empty()) return;
  for (const at::Tensor& grad : flat)
    check(grad.scalar_type() == flat[0].scalar_type(), "sum_replicated_gradients: main grads of ", grad.scalar_type(),
          " and ", flat[0].scalar_type(), ": they travel as one tensor of one dtype");
  at::Tensor buffer = at::cat(flat);
  axis.all_reduce(buffer);
  int64_t offset = 0;
  for (const auto& parameter : parameters) {
    if (parameter->sharding.sum != sum || !parameter->main_grad.defined()) continue;
    const int64_t count = parameter->main_grad.numel();
    parameter->main_grad.copy_(buffer.narrow(0, offset, count).view(parameter->main_grad.sizes()));
    offset += count;
  }
}

}  // namespace

void sum_replicated_gradients(std::span<const ops::ParameterPtr> parameters, comm::Communicator& tp,
                              comm::Communicator& replicas) {
  const at::NoGradGuard no_grad;
  if (tp.size() == 1) return;
  sum_over(parameters, Sum::kAxis, tp);
  sum_over(parameters, Sum::kReplicas, replicas);
}

}  // namespace fpdist::parallel
