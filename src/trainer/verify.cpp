// pack.verify_steps: the step's loss and gradients with shared prefixes, and again with every sample alone.

#include <ATen/ATen.h>

#include "fpdist/core/error.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {
namespace {

/// Relative difference that rounding alone explains, by dtype: two summation orders of a few thousand terms.
double tolerance(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 1e-10;
    case DType::kFloat32:
      return 1e-3;
    case DType::kBFloat16:
      return 1e-1;
  }
  throw std::logic_error("enum value without a tolerance");
}

struct Measured {
  double loss;
  at::Tensor gradient;  // this rank's shard of the sum
};

}  // namespace

void Trainer::Impl::verify(std::span<const data::Group> groups, LogSink& step_log) {
  const auto measure = [&](bool share) {
    const plan::StepPlan plan = make_plan(groups, share);
    StepSums sums;
    flat.zero_gradients();
    sums.metrics.add("loss", loss::Combine::kSum, 0.0);
    for (size_t p = 0; p < plan.replica[static_cast<size_t>(mesh.at().dp)].size(); ++p) {
      StepSums of_pack;  // only the loss is compared
      forward_pack(groups, plan, static_cast<int>(p), share, of_pack);
      sums.metrics.add("loss", loss::Combine::kSum, in_flight.at(static_cast<int>(p)).loss.item<double>());
      backward_pack(static_cast<int>(p));
      policy->backward_weight(static_cast<int>(p));
    }
    const at::Tensor shard = reducer.reduce_gradients().clone();
    return Measured{sums.metrics.reduce(mesh.dp()).at("loss"), shard};
  };
  const Measured shared = measure(true), alone = measure(false);

  // Per parameter: squared difference and squared size, summed over the ranks' shards.
  const auto count = static_cast<int64_t>(flat.parameters().size());
  at::Tensor squares = at::zeros({count, 2}, at::kDouble);
  for (int64_t p = 0; p < count; ++p) {
    const int64_t begin = std::max(flat.offset(p), reducer.shard_begin());
    const int64_t end = std::min(flat.offset(p) + flat.parameters()[p]->value.numel(), reducer.shard_end());
    if (begin >= end) continue;
    const auto part = [&](const at::Tensor& t) {
      return t.slice(0, begin - reducer.shard_begin(), end - reducer.shard_begin()).to(at::kDouble);
    };
    squares[p][0] = (part(shared.gradient) - part(alone.gradient)).square().sum();
    squares[p][1] = part(alone.gradient).square().sum();
  }
  mesh.dp().all_reduce(squares);
  const at::Tensor total = squares.sum(0).sqrt();
  const double whole = total[1].item<double>();
  double worst = std::abs(shared.loss - alone.loss) / std::max(std::abs(alone.loss), 1e-300);
  if (alone.loss == shared.loss) worst = 0;
  std::string where = "the loss";
  for (int64_t p = 0; p < count; ++p) {
    // A parameter whose gradient is only rounding noise is measured against the whole gradient.
    const double size = std::max(squares[p][1].sqrt().item<double>(), 1e-3 * whole);
    const double difference = size > 0 ? squares[p][0].sqrt().item<double>() / size : 0.0;
    if (difference > worst) worst = difference, where = flat.parameters()[p]->name;
  }
  const double allowed = tolerance(config.model.dtype);
  check<NumericsError>(worst <= allowed, "pack.verify_steps: step ", steps_done + 1,
                       ": shared and unshared disagree by ", worst, " (relative) in ", where, ", more than ", allowed,
                       ": please report this, and train with pack.share_prefix: false");
  step_log.info(
      text("verified step ", steps_done + 1, ": shared against unshared differs by ", worst, " at most (", where, ")"));
}

}  // namespace fpdist::trainer
