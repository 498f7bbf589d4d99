#include "src/optim/adamw.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::optim {

AdamW::AdamW(const at::Tensor& value_shard, int64_t begin, int64_t decayed, const OptimOptions& options,
             const std::vector<PeakSpan>& peaks)
    : options_(options), value_(value_shard) {
  check(value_.defined() && value_.dim() == 1 && value_.is_contiguous(),
        "AdamW: the value shard must be a contiguous flat tensor");
  const at::NoGradGuard no_grad;
  cut(std::clamp<int64_t>(decayed - begin, 0, value_.numel()),
      peaks.empty() ? std::vector{PeakSpan{.end = value_.numel(), .learning_rate = options.learning_rate}} : peaks);
  master_ = value_.to(ops::accumulate_dtype(value_.scalar_type()));  // no copy when the dtype is that already
  exp_avg_ = at::zeros_like(master_);
  exp_avg_sq_ = at::zeros_like(master_);
}

// Few long runs: where a run begins decides which elements are computed together, and with it the last bit.
void AdamW::cut(int64_t decayed, const std::vector<PeakSpan>& peaks) {
  const auto add = [&](int64_t begin, int64_t end, double learning_rate) {
    if (begin >= end) return;
    const double weight_decay = begin < decayed ? options_.weight_decay : 0.0;
    if (!alike_.empty() && alike_.back().learning_rate == learning_rate && begin != decayed)
      alike_.back().end = end;
    else
      alike_.push_back({begin, end, learning_rate, weight_decay});
  };
  int64_t begin = 0;
  for (const PeakSpan& peak : peaks) {
    add(begin, std::min(peak.end, decayed), peak.learning_rate);
    add(std::max(begin, decayed), peak.end, peak.learning_rate);
    begin = peak.end;
  }
  check(begin == value_.numel(), "AdamW: learning rates of ", begin, " elements, the shard has ", value_.numel());
}

void AdamW::step(const at::Tensor& grad_shard, double factor, const at::Tensor& found_inf) {
  check(grad_shard.sizes() == master_.sizes() && grad_shard.scalar_type() == master_.scalar_type(),
        "AdamW: the gradient has ", grad_shard.numel(), " elements of ", c10::toString(grad_shard.scalar_type()),
        ", the masters ", master_.numel(), " of ", c10::toString(master_.scalar_type()));
  const at::NoGradGuard no_grad;
  ++steps_;
  const at::Tensor step = at::full({}, static_cast<double>(steps_), master_.options().dtype(at::kFloat));
  const auto skip = found_inf.defined() ? std::optional(found_inf) : std::nullopt;
  for (const Alike& run : alike_) {
    const auto part = [&](const at::Tensor& whole) { return whole.narrow(0, run.begin, run.end - run.begin); };
    at::_fused_adamw_({part(master_)}, {part(grad_shard)}, {part(exp_avg_)}, {part(exp_avg_sq_)}, {}, {step},
                      run.learning_rate * factor, options_.adam_beta1, options_.adam_beta2, run.weight_decay,
                      options_.adam_epsilon, /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/{}, skip);
  }
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
