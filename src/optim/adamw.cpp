#include "src/optim/adamw.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::optim {

AdamW::AdamW(const at::Tensor& value_shard, int64_t begin, int64_t decayed, const OptimOptions& options)
    : options_(options), value_(value_shard) {
  check(value_.defined() && value_.dim() == 1 && value_.is_contiguous(),
        "AdamW: the value shard must be a contiguous flat tensor");
  const at::NoGradGuard no_grad;
  decayed_ = std::clamp<int64_t>(decayed - begin, 0, value_.numel());
  master_ = value_.to(ops::accumulate_dtype(value_.scalar_type()));  // no copy when the dtype is that already
  exp_avg_ = at::zeros_like(master_);
  exp_avg_sq_ = at::zeros_like(master_);
}

void AdamW::step(const at::Tensor& grad_shard, double learning_rate, const at::Tensor& found_inf) {
  check(grad_shard.sizes() == master_.sizes() && grad_shard.scalar_type() == master_.scalar_type(),
        "AdamW: the gradient has ", grad_shard.numel(), " elements of ", c10::toString(grad_shard.scalar_type()),
        ", the masters ", master_.numel(), " of ", c10::toString(master_.scalar_type()));
  const at::NoGradGuard no_grad;
  ++steps_;
  const at::Tensor step = at::full({}, static_cast<double>(steps_), master_.options().dtype(at::kFloat));
  const auto skip = found_inf.defined() ? std::optional(found_inf) : std::nullopt;
  const auto update = [&](int64_t from, int64_t to, double weight_decay) {
    if (from == to) return;
    const auto part = [&](const at::Tensor& whole) { return whole.narrow(0, from, to - from); };
    at::_fused_adamw_({part(master_)}, {part(grad_shard)}, {part(exp_avg_)}, {part(exp_avg_sq_)}, {}, {step},
                      learning_rate, options_.adam_beta1, options_.adam_beta2, weight_decay, options_.adam_epsilon,
                      /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/{}, skip);
  };
  update(0, decayed_, options_.weight_decay);
  update(decayed_, master_.numel(), 0.0);
  round_values();
}

void AdamW::go_on_after(int64_t steps) {
  const at::NoGradGuard no_grad;
  steps_ = steps;
  round_values();
}

void AdamW::round_values() {
  if (!master_.is_same(value_)) value_.copy_(master_);
}

}  // namespace fpdist::optim
