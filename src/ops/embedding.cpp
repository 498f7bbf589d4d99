#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "src/ops/main_grad.hpp"
#include "src/ops/partial_embedding.hpp"

namespace fpdist::ops {
namespace {

constexpr int64_t kColumnsPerTask = 64;

/// main[token[i]] += grad[i] in row order, -1 skipped: threads share the columns, so every sum has one fixed order.
void add_rows(const at::Tensor& token, const at::Tensor& grad, at::Tensor& main_grad) {
  const at::Tensor ids = token.contiguous(), rows = grad.contiguous();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  const int64_t count = ids.numel(), width = rows.size(1);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, rows.scalar_type(), "embedding", [&] {
    using A = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const scalar_t* from = rows.const_data_ptr<scalar_t>();
    A* to = main_grad.mutable_data_ptr<A>();
    at::parallel_for(0, width, kColumnsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < count; ++i) {
        if (id[i] < 0) continue;
        for (int64_t c = begin; c < end; ++c) to[id[i] * width + c] += static_cast<A>(from[i * width + c]);
      }
    });
  });
}

/// The same on a GPU, in one order too: accumulating index_put_ sorts the tokens and adds each one's rows as they come,
/// without asking the host. (index_add_ would race its atomics over a repeated token.) Rows of another slice add zeros,
/// each to a row of its own, or they would queue up at one.
void put_rows(const at::Tensor& token, const at::Tensor& grad, at::Tensor& main_grad, bool is_slice) {
  if (main_grad.numel() == 0) return;
  const at::Tensor wide = grad.to(main_grad.scalar_type());
  if (!is_slice) return void(main_grad.index_put_({token}, wide, /*accumulate=*/true));
  const at::Tensor elsewhere = token.lt(0);
  const at::Tensor spread = at::arange(token.size(0), token.options()).remainder(main_grad.size(0));
  main_grad.index_put_({at::where(elsewhere, spread, token)}, wide.masked_fill(elsewhere.unsqueeze(1), 0.0),
                       /*accumulate=*/true);
}

at::Tensor rows_of(const at::Tensor& token, const at::Tensor& weight, bool is_slice) {
  if (!is_slice) return weight.index_select(0, token);
  if (weight.size(0) == 0) return at::zeros({token.size(0), weight.size(1)}, weight.options().requires_grad(false));
  return weight.index_select(0, token.clamp_min(0)).masked_fill(token.lt(0).unsqueeze(1), 0.0);
}

struct Embedding : torch::autograd::Function<Embedding> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& token,
                            const at::Tensor& weight, const MainGrad& main_grad, bool is_slice) {
    context->save_for_backward({token});
    main_grad.save(*context, "main_grad");
    context->saved_data["is_slice"] = is_slice;
    return rows_of(token, weight, is_slice);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const at::Tensor token = context->get_saved_variables()[0];
    const bool is_slice = context->saved_data["is_slice"].toBool();
    MainGrad::saved(*context, "main_grad").put([&](at::Tensor& sum, bool accumulates) {
      if (!accumulates) sum.zero_();  // most rows get nothing
      if (sum.is_cpu() && sum.is_contiguous())
        add_rows(token, grads[0], sum);
      else if (!sum.is_meta())
        put_rows(token, grads[0], sum, is_slice);  // Meta has no index_put_, and nothing to add
    });
    return torch::autograd::variable_list(4);
  }
};

at::Tensor embed(const at::Tensor& token, const Parameter& weight, bool is_slice) {
  check(token.dim() == 1 && token.scalar_type() == at::kLong, "embedding: token must be int64 [T]");
  check(weight.value.defined() && weight.value.dim() == 2, "embedding: weight ", weight.name, " must be [V,H]");
  if (!weight.main_grad.defined()) return rows_of(token, weight.value.detach(), is_slice);
  check(weight.main_grad.scalar_type() == accumulate_dtype(weight.value.scalar_type()), "embedding: main grad of ",
        weight.name, " is ", weight.main_grad.scalar_type(), ", needs the accumulation dtype");
  return Embedding::apply(token, weight.value, MainGrad(weight), is_slice);
}

}  // namespace

at::Tensor embedding(const at::Tensor& token, const Parameter& weight) { return embed(token, weight, false); }

at::Tensor partial_embedding(const at::Tensor& token, const Parameter& weight) { return embed(token, weight, true); }

}  // namespace fpdist::ops
