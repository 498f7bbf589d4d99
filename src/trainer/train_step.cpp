// One optimizer step: plan -> execute -> reduce -> clip -> update -> metrics.

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <chrono>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/optim/schedule.hpp"
#include "fpdist/parallel/tensor_parallel.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/trainer/step_run.hpp"

namespace fpdist::trainer {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// The embedding on the first stage and its copy that serves as the head on the last.
ops::ParameterPtr tied_copy(const std::vector<ops::ParameterPtr>& parameters) {
  for (const auto& parameter : parameters)
    if (parameter->name == model::kEmbeddingWeight) return parameter;
  throw std::logic_error("a stage with a tied embedding has none");
}

/// Both ends hold the same sum afterwards: first stage's share + last stage's.
void sum_tied_gradients(const std::vector<ops::ParameterPtr>& parameters, comm::Communicator& pp) {
  const int last = pp.size() - 1, other = last - pp.rank();
  if (pp.rank() != 0 && pp.rank() != last) return;
  at::Tensor& own = tied_copy(parameters)->main_grad;
  at::Tensor theirs = at::empty_like(own);
  pp.group_begin();
  pp.send(own, other);
  pp.receive(theirs, other);
  pp.group_end();
  own.add_(theirs);  // two terms: the order does not matter
}

}  // namespace

StepMetrics Trainer::Impl::step(std::span<const data::Group> given, LogSink& step_log,
                                std::future<PlannedStep>* ready) {
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

  const PlannedStep planned = take_plan(groups, ready);
  const plan::StepPlan& plan = planned.plan;
  check_same_plan(plan);
  StepSums sums;
  sums.learning_rate = optim::learning_rate(config.optim, steps_done, config.train.max_steps);
  const std::vector<plan::Op> ops = ops_of(plan, mesh.at());
  StepRun run(*this, groups, plan, config.pack.share_prefix, ops, sums, planned.packs);
  const comm::MemoryUse before = device->memory();
  device->reset_peak_memory();
  std::vector<parallel::OpTime> times;
  try {
    times = parallel::execute(ops, static_cast<int>(policy.size()), run, {mesh.pp(), mesh.pp_gradient(), *device},
                              [&](size_t i) { run.before(i); });
  } catch (const c10::OutOfMemoryError& error) {
    throw_out_of_memory(error.what_without_backtrace(), run.position(), before, plan);
  }
  for (const auto& [op, seconds] : sums.waited) times[op].begin += seconds;

  ++steps_done;
  tokens_seen += plan.totals.tokens_logical;
  values.merge(sums.metrics.reduce(mesh.world()));
  values["grad_norm"] = sums.read_norm;
  values["learning_rate"] = sums.learning_rate;
  values["seconds"] = seconds_since(start);
  add_step_metrics(values, planned, ops, times, sums.exchange_seconds);
  if (writes_files && steps_done <= config.train.profile_steps) write_timelines(planned, times);
  watch_plan(planned, ops, times, values["measured_seconds"], step_log);
  return {.step = steps_done, .values = std::move(values)};
}

plan::StepPlan Trainer::Impl::make_plan(std::span<const data::Group> groups, bool share) const {
  plan::PackOptions options = config.pack;
  options.share_prefix = share;
  return plan::make_step_plan(groups, loss::spec_of(config.method, config.loss).atomic(), config.parallel, costs,
                              options);
}

std::vector<plan::Op> Trainer::Impl::ops_of(const plan::StepPlan& plan, const Coordinates& at) {
  return plan::pipeline_ops(plan.pipeline(at.dp))[static_cast<size_t>(at.pp)];
}

void Trainer::Impl::check_same_plan(const plan::StepPlan& plan) {
  at::Tensor low = at::zeros({1}, at::kLong), high = at::zeros({1}, at::kLong);
  low.fill_(static_cast<int64_t>(plan.hash)), high.fill_(static_cast<int64_t>(plan.hash));
  mesh.world().all_reduce(low, comm::ReduceOp::kMin);
  mesh.world().all_reduce(high, comm::ReduceOp::kMax);
  check<CommError>(low.item<int64_t>() == high.item<int64_t>(), "step ", steps_done + 1, ", rank ", world.rank(),
                   ": the ranks planned different steps: give every rank the same groups, config and files");
}

void Trainer::Impl::finish_gradients() {
  parallel::sum_replicated_gradients(ordered.all, mesh.tp(), *kv_replicas);
  if (ties_stages(config, model)) sum_tied_gradients(ordered.all, mesh.pp());
  reducer.finish();
}

void Trainer::Impl::update(StepSums& sums) {
  std::vector<at::Tensor> counted;  // what no other rank counts
  const std::vector<at::Tensor> gradients = reducer.gradients();
  for (const parallel::PieceOfParameter& part : reducer.parts())
    if (flat.parameters()[part.parameter]->sharding.counted)
      counted.push_back(flat.main_grad().narrow(0, part.range.begin, part.range.size()));
  sums.grad_norm = optim::global_norm(counted, mesh.world(), device->where());
  sums.stopped = sums.grad_norm.isfinite().logical_not().to(at::kFloat).reshape({1});
  for (const auto& [loss, samples] : sums.pack_loss) sums.stopped.logical_or_(loss.isfinite().logical_not());
  mesh.world().all_reduce(sums.stopped, comm::ReduceOp::kMax);
  const at::Tensor coefficient = optim::clip_coefficient(sums.grad_norm, config.optim.max_grad_norm);
  for (const size_t i : reducer.order_of_use()) {  // a piece travels while the next one is updated
    at::Tensor gradient = gradients[i];
    optimizer[i].step(gradient.mul_(coefficient), sums.learning_rate, sums.stopped);
    if (mesh.dp_cp().size() == 1) continue;
    const size_t begin = device->mark();
    reducer.start_gather(i);
    sums.exchange.emplace_back(begin, device->mark());
  }
}

void Trainer::Impl::await_weights(std::span<const ops::ParameterPtr> parameters) {
  if (!reducer.is_under_way(parameters)) return;
  const size_t begin = device->mark();
  reducer.need(parameters);
  weight_waits.push_back({.op = op_under_way, .begin = begin, .end = device->mark()});
}

}  // namespace fpdist::trainer
