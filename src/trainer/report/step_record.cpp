#include "src/trainer/report/step_record.hpp"

#include <ATen/ATen.h>

#include "src/trainer/report/metric_sums.hpp"

namespace fpdist::trainer {
namespace {

bool computes(plan::OpKind kind) {
  return kind == plan::OpKind::kForward || kind == plan::OpKind::kBackwardInput ||
         kind == plan::OpKind::kBackwardWeight;
}

bool communicates(plan::OpKind kind) { return !computes(kind) && kind != plan::OpKind::kOptimizerStep; }

void add_stage_times(RankSums& sums, const StepRecord& own, double busy, const comm::Mesh& mesh) {
  const int stages = mesh.shape().dp * mesh.shape().pp;
  at::Tensor times = at::zeros({stages + 2}, at::kDouble);  // busy seconds by [dp][pp], then what planning took
  times[mesh.at().dp * mesh.shape().pp + mesh.at().pp] = busy;
  mesh.world().all_reduce(times);
  at::Tensor planning = times.narrow(0, stages, 2);
  planning[0] = own.planned.seconds, planning[1] = own.planned.waited;
  mesh.world().all_reduce(planning, comm::ReduceOp::kMax);
  const double* seconds = times.const_data_ptr<double>();
  sums.busy_of.assign(seconds, seconds + stages);
  sums.plan_seconds = seconds[stages], sums.plan_wait_seconds = seconds[stages + 1];
}

}  // namespace

RankSums add_up(const StepRecord& own, const comm::Mesh& mesh) {
  double busy = 0, span = 0;  // until the last compute op has ended
  double exposed = own.exchange_seconds;
  for (size_t i = 0; i < own.ops.size(); ++i) {
    const double seconds = own.times[i].end - own.times[i].begin;
    if (computes(own.ops[i].kind)) busy += seconds, span = own.times[i].end;
    if (communicates(own.ops[i].kind)) exposed += seconds;
  }
  MetricSums metrics;
  metrics.add("busy", loss::Combine::kSum, busy);
  metrics.add("span", loss::Combine::kMax, span);
  metrics.add("exposed", loss::Combine::kSum, exposed);
  if (own.memory) {
    metrics.add("memory/peak_bytes", loss::Combine::kMax, static_cast<double>(own.memory->peak));
    metrics.add("memory/bytes", loss::Combine::kMax, static_cast<double>(own.memory->bytes));
  }
  for (const auto& [axis, traffic] : own.traffic) {
    metrics.add("comm/" + axis + "_bytes", loss::Combine::kSum, static_cast<double>(traffic.bytes));
    metrics.add("comm/" + axis + "_messages", loss::Combine::kSum, static_cast<double>(traffic.messages));
  }
  RankSums sums{.named = metrics.reduce(mesh.world())};
  sums.busy = sums.named.extract("busy").mapped(), sums.exposed = sums.named.extract("exposed").mapped();
  sums.measured_seconds = sums.named.extract("span").mapped();
  add_stage_times(sums, own, busy, mesh);
  return sums;
}

}  // namespace fpdist::trainer
