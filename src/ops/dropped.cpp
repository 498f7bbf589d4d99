#include "src/ops/dropped.hpp"

#include <ATen/ATen.h>
#include <torch/library.h>

#include "fpdist/core/error.hpp"
#include "kernels/keyed_dropout/keyed_dropout.hpp"

namespace fpdist::ops {
namespace {

struct Dropped : torch::autograd::Function<Dropped> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const RowDropout& dropout) {
    const at::AutoDispatchBelowAutograd below;
    context->save_for_backward({dropout.key});
    save_dropout(*context, dropout);
    return drop(x, dropout);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    return {drop(grads[0], saved_dropout(*context, context->get_saved_variables()[0])), {}};
  }
};

at::Tensor keyed_dropout_autograd(const at::Tensor& x, const at::Tensor& key, int64_t stream, double p,
                                  int64_t first_column) {
  return Dropped::apply(x, RowDropout{.key = key, .stream = stream, .p = p, .first_column = first_column});
}

}  // namespace

at::Tensor drop(const at::Tensor& x, const RowDropout& dropout) {
  if (dropout.p == 0) return x;
  return kernels::keyed_dropout(x, dropout.key, dropout.stream, dropout.p, dropout.first_column);
}

void save_dropout(torch::autograd::AutogradContext& context, const RowDropout& dropout) {
  context.saved_data["dropout_stream"] = dropout.stream;
  context.saved_data["dropout_p"] = dropout.p;
  context.saved_data["dropout_first_column"] = dropout.first_column;
}

RowDropout saved_dropout(const torch::autograd::AutogradContext& context, const at::Tensor& key) {
  return {.key = key,
          .stream = context.saved_data.at("dropout_stream").toInt(),
          .p = context.saved_data.at("dropout_p").toDouble(),
          .first_column = context.saved_data.at("dropout_first_column").toInt()};
}

at::Tensor dropped(const at::Tensor& x, const RowDropout& dropout) {
  if (dropout.p == 0) return x;
  check(dropout.key.defined(), "dropped: p is ", dropout.p, " and there are no keys of rows: pass RowsHere::key");
  return Dropped::apply(x, dropout);
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) { m.impl("keyed_dropout", fpdist::ops::keyed_dropout_autograd); }
