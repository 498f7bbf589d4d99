// One optimizer step: plan -> execute -> reduce -> clip -> update -> metrics.

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <chrono>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/optim/schedule.hpp"
#include "fpdist/parallel/tensor_parallel.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/trainer/report/timelines.hpp"
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

StepMetrics Trainer::Impl::step(std::span<const data::Group> groups, LogSink& step_log) {
  const auto start = Clock::now();
  const PlannedStep planned = planner.take(groups, steps_done + 1);
  if (steps_done < config.pack.verify_steps && config.pack.share_prefix) verify(planned, step_log);

  const plan::StepPlan& plan = planned.plan;
  StepSums sums;
  sums.learning_rate = optim::learning_rate(config.optim, steps_done, config.train.max_steps);
  StepRecord record{.planned = planned, .ops = ops_of(plan, mesh.at())};
  StepRun run(*this, planned, record.ops, sums);
  const comm::MemoryUse before = device->memory();
  device->reset_peak_memory();
  try {
    record.times = parallel::execute(record.ops, static_cast<int>(policy.size()), run,
                                     {mesh.pp(), mesh.pp_gradient(), *device}, [&](size_t i) { run.before(i); });
  } catch (const c10::OutOfMemoryError& error) {
    throw_out_of_memory(error.what_without_backtrace(), run.position(), before, plan);
  }
  for (const auto& [op, seconds] : sums.waited) record.times[op].begin += seconds;
  ++steps_done;
  tokens_seen += plan.totals.tokens_logical;
  record.metrics = planned.groups.metrics;
  record.metrics.merge(sums.metrics.reduce(mesh.world()));
  record.grad_norm = sums.read_norm, record.learning_rate = sums.learning_rate;
  record.exchange_seconds = sums.exchange_seconds;
  record.seconds = seconds_since(start);
  record.traffic = traffic.since_last(mesh);
  if (!device->where().is_cpu()) record.memory = device->memory();

  const RankSums together = add_up(record, mesh);
  if (writes_files && steps_done <= config.train.profile_steps)
    write_timelines(record, *this, text(config.train.output_dir, "/trace-", steps_done));
  planner.learn(planned, record.ops, record.times, together.measured_seconds, step_log);
  const ReportFacts facts{.mesh = mesh.shape(), .model = model.shape(), .peak_tflops = config.train.peak_tflops};
  return {.step = steps_done, .values = report_step(record, together, tokens_seen, facts)};
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
