// One optimizer step: plan -> execute -> reduce -> clip -> update -> metrics.

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "fpdist/core/error.hpp"
#include "fpdist/optim/schedule.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// The edges of a pack with nothing in it: gives every rank the same metric names, and zeros.
loss::Edges no_edges(DType model_dtype) {
  const at::ScalarType dtype = ops::accumulate_dtype(scalar_type(model_dtype));
  const at::Tensor none = at::zeros({0}, dtype);
  return {.logp = none,
          .entropy = none,
          .correct = none,
          .mean_logit = none,
          .ref_logp = none,
          .old_logp = none,
          .sample = at::zeros({0}, at::kLong),
          .length = none,
          .score = none,
          .advantage = none,
          .margin = none};
}

}  // namespace

StepMetrics Trainer::Impl::step(std::span<const data::Group> given, LogSink& step_log) {
  const auto start = Clock::now();
  std::map<std::string, double> values;
  std::vector<data::Group> filled;  // rollouts only: the caller's groups stay as they are
  if (config.method == Method::kGrpo) {
    filled.assign(given.begin(), given.end());
    values = loss::fill_advantages(filled, config.loss);
  }
  const std::span<const data::Group> groups =
      config.method == Method::kGrpo ? std::span<const data::Group>(filled) : given;
  if (steps_done < config.pack.verify_steps && config.pack.share_prefix) verify(groups, step_log);

  const plan::StepPlan plan = make_plan(groups, config.pack.share_prefix);
  check_same_plan(plan);
  const double plan_seconds = seconds_since(start);
  const double rate = optim::learning_rate(config.optim, steps_done, config.train.max_steps);
  StepSums sums;
  at::Tensor grad_shard;
  double norm = 0;
  flat.zero_gradients();
  sums.metrics.add(loss(no_edges(config.model.dtype), plan.totals).metrics);
  sums.metrics.add("loss", loss::Combine::kSum, 0.0);
  for (const plan::Op& op : plan.ops_of(mesh.at().dp)) {
    switch (op.kind) {
      case plan::OpKind::kForward:
        forward_pack(groups, plan, op.pack, config.pack.share_prefix, sums);
        break;
      case plan::OpKind::kBackwardInput:
        sums.busy_seconds += backward_pack(op.pack);
        break;
      case plan::OpKind::kBackwardWeight:
        policy->backward_weight(op.pack);
        break;
      case plan::OpKind::kReduceGradients:
        stop_on_bad_loss(sums);
        grad_shard = reducer.reduce_gradients();
        break;
      case plan::OpKind::kOptimizerStep:
        norm = optim::global_norm(grad_shard, mesh.dp());
        stop_on_bad_gradient(grad_shard, norm);
        grad_shard.mul_(optim::clip_coefficient(norm, config.optim.max_grad_norm));
        optimizer.step(grad_shard, rate);
        reducer.gather_values();
        break;
      case plan::OpKind::kSend:
      case plan::OpKind::kReceive:
      case plan::OpKind::kSendGradient:
      case plan::OpKind::kReceiveGradient:
        throw std::logic_error("a plan without pipeline stages holds a message");
    }
  }

  ++steps_done;
  tokens_seen += plan.totals.tokens_logical;
  sums.metrics.add("busy_seconds", loss::Combine::kSum, sums.busy_seconds);
  sums.metrics.add("busiest_seconds", loss::Combine::kMax, sums.busy_seconds);
  values.merge(sums.metrics.reduce(mesh.dp()));
  const double seconds = seconds_since(start), busiest = values.extract("busiest_seconds").mapped();
  const double busy = values.extract("busy_seconds").mapped();
  values["grad_norm"] = norm;
  values["learning_rate"] = rate;
  values["num_tokens"] = static_cast<double>(tokens_seen);
  values["tokens_logical"] = static_cast<double>(plan.totals.tokens_logical);
  values["tokens_computed"] = static_cast<double>(plan.totals.tokens_computed);
  values["sharing_ratio"] = plan.totals.sharing_ratio();
  values["bubble"] = busiest > 0 ? 1.0 - busy / (busiest * mesh.shape().dp) : 0.0;
  values["plan_seconds"] = plan_seconds;
  values["seconds"] = seconds;
  values["tokens_per_second"] = static_cast<double>(plan.totals.tokens_logical) / seconds;
  int64_t flops = 0;  // forward; backward is twice that
  for (const auto& packs : plan.replica)
    for (const plan::PackPlan& pack : packs) flops += pack.cost;
  const double peak = config.train.peak_tflops * 1e12 * world.size();
  values["mfu"] =
      peak > 0 ? 3.0 * static_cast<double>(flops) / seconds / peak : std::numeric_limits<double>::quiet_NaN();
  return {.step = steps_done, .values = std::move(values)};
}

plan::StepPlan Trainer::Impl::make_plan(std::span<const data::Group> groups, bool share) const {
  plan::PackOptions options = config.pack;
  options.share_prefix = share;
  return plan::make_step_plan(groups, config.method, mesh.shape(), costs, options);
}

void Trainer::Impl::check_same_plan(const plan::StepPlan& plan) {
  at::Tensor low = at::zeros({1}, at::kLong), high = at::zeros({1}, at::kLong);
  low.fill_(static_cast<int64_t>(plan.hash)), high.fill_(static_cast<int64_t>(plan.hash));
  mesh.world().all_reduce(low, comm::ReduceOp::kMin);
  mesh.world().all_reduce(high, comm::ReduceOp::kMax);
  check<CommError>(low.item<int64_t>() == high.item<int64_t>(), "step ", steps_done + 1, ", rank ", world.rank(),
                   ": the ranks planned different steps: give every rank the same groups, config and files");
}

void Trainer::Impl::stop_on_bad_loss(const StepSums& sums) {
  at::Tensor bad_rank = at::zeros({1}, at::kLong);
  bad_rank.fill_(sums.bad_pack.empty() ? -1 : mesh.dp().rank());
  mesh.dp().all_reduce(bad_rank, comm::ReduceOp::kMax);
  const auto root = static_cast<int>(bad_rank.item<int64_t>());
  if (root < 0) return;
  at::Tensor message = at::zeros({512}, at::kByte);  // so that every rank stops with the same words
  if (mesh.dp().rank() == root)
    std::copy_n(sums.bad_pack.begin(), std::min<size_t>(sums.bad_pack.size(), 511),
                message.mutable_data_ptr<uint8_t>());
  mesh.dp().broadcast(message, root);
  throw NumericsError(reinterpret_cast<const char*>(message.const_data_ptr<uint8_t>()));
}

void Trainer::Impl::stop_on_bad_gradient(const at::Tensor& grad_shard, double norm) {
  if (std::isfinite(norm)) return;
  const at::Tensor bad = grad_shard.isfinite().logical_not().nonzero();
  at::Tensor first = at::full({1}, flat.size(), at::kLong);
  if (bad.numel() > 0) first.fill_(reducer.shard_begin() + bad[0][0].item<int64_t>());
  mesh.dp().all_reduce(first, comm::ReduceOp::kMin);
  std::string name = "an overflowing sum of squares";
  for (size_t p = 0; p < flat.parameters().size(); ++p)
    if (flat.offset(p) <= first.item<int64_t>() && first.item<int64_t>() < flat.size())
      name = flat.parameters()[p]->name;
  throw NumericsError(text("the gradient norm is ", norm, " at step ", steps_done + 1, ", first in ", name,
                           ": lower optim.learning_rate, or look at the step's samples"));
}

}  // namespace fpdist::trainer
