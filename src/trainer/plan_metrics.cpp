// What was planned beside what was measured, in every line of metrics.jsonl.

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "src/trainer/state.hpp"

namespace fpdist::trainer {
namespace {

double over_mean(const std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return sum > 0 ? *std::max_element(values.begin(), values.end()) * static_cast<double>(values.size()) / sum : 1.0;
}

/// Time in operations of each replica and of each stage of all replicas, from [dp][pp].
struct Busy {
  std::vector<double> replica, stage;
  Busy(int dp, int pp) : replica(static_cast<size_t>(dp)), stage(static_cast<size_t>(pp)) {}
  void add(size_t d, size_t s, double time) { replica[d] += time, stage[s] += time; }
};

}  // namespace

void Trainer::Impl::add_plan_metrics(std::map<std::string, double>& values, const PlannedStep& planned, double busy) {
  const int dp = mesh.shape().dp, pp = mesh.shape().pp;
  at::Tensor times = at::zeros({dp * pp + 2}, at::kDouble);  // busy seconds by [dp][pp], then what planning took
  times[mesh.at().dp * pp + mesh.at().pp] = busy;
  mesh.world().all_reduce(times);
  at::Tensor planning = times.narrow(0, dp * pp, 2);
  planning[0] = planned.seconds, planning[1] = planned.waited;
  mesh.world().all_reduce(planning, comm::ReduceOp::kMax);

  Busy measured(dp, pp), forecast(dp, pp);
  double units = 0;
  const double* seconds = times.const_data_ptr<double>();
  for (size_t d = 0; d < measured.replica.size(); ++d)
    for (size_t s = 0; s < measured.stage.size(); ++s) {
      const auto time = static_cast<double>(planned.forecast.busy[d][s]);
      measured.add(d, s, *seconds++);
      forecast.add(d, s, time), units += time;
    }
  const auto makespan = static_cast<double>(planned.forecast.makespan);
  values["planned_seconds"] = plan_watch.planned_seconds(planned.forecast.makespan);
  values["planned_bubble"] = makespan > 0 ? 1.0 - units / (makespan * dp * pp) : 0.0;
  values["replica_imbalance"] = over_mean(measured.replica);
  values["planned_replica_imbalance"] = over_mean(forecast.replica);
  values["stage_imbalance"] = over_mean(measured.stage);
  const plan::StepTotals& totals = planned.plan.totals;
  const auto unique = static_cast<double>(totals.tokens_unique);
  values["sharing_possible"] = unique > 0 ? static_cast<double>(totals.tokens_logical) / unique : 1.0;
  values["plan_seconds"] = planning[0].item<double>();
  values["plan_wait_seconds"] = planning[1].item<double>();
}

}  // namespace fpdist::trainer
