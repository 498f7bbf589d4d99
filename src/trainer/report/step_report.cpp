#include "src/trainer/report/step_report.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/costs/unit_cost.hpp"

namespace fpdist::trainer {
namespace {

double over_mean(const std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return sum > 0 ? *std::max_element(values.begin(), values.end()) * static_cast<double>(values.size()) / sum : 1.0;
}

/// Time in operations of each replica and of each stage of all replicas, from [dp][pp].
struct BusyTimes {
  std::vector<double> replica, stage;
  BusyTimes(int dp, int pp) : replica(index(dp)), stage(index(pp)) {}
  void add(size_t d, size_t s, double time) { replica[d] += time, stage[s] += time; }
};

/// What was planned beside what was measured.
void add_plan(std::map<std::string, double>& values, const PlannedStep& planned, const RankSums& sums,
              const MeshShape& mesh) {
  BusyTimes measured(mesh.dp, mesh.pp), forecast(mesh.dp, mesh.pp);
  double units = 0;
  const double* seconds = sums.busy_of.data();
  for (size_t d = 0; d < measured.replica.size(); ++d)
    for (size_t s = 0; s < measured.stage.size(); ++s) {
      const auto time = static_cast<double>(planned.forecast.busy[d][s]);
      measured.add(d, s, *seconds++);
      forecast.add(d, s, time), units += time;
    }
  const auto makespan = static_cast<double>(planned.forecast.makespan);
  values["planned_seconds"] = planned.expected_seconds;
  values["planned_bubble"] = makespan > 0 ? 1.0 - units / (makespan * mesh.dp * mesh.pp) : 0.0;
  values["replica_imbalance"] = over_mean(measured.replica);
  values["planned_replica_imbalance"] = over_mean(forecast.replica);
  values["stage_imbalance"] = over_mean(measured.stage);
  const plan::StepTotals& totals = planned.plan.totals;
  const auto unique = static_cast<double>(totals.tokens_unique);
  values["sharing_possible"] = unique > 0 ? static_cast<double>(totals.tokens_logical) / unique : 1.0;
  values["plan_seconds"] = sums.plan_seconds;
  values["plan_wait_seconds"] = sums.plan_wait_seconds;
}

/// FLOPs of the step's forward; input and weight gradients are as many each.
int64_t forward_flops(const plan::StepPlan& plan, const arch::ModelShape& model) {
  plan::CostTable forward = plan::forward_cost(plan::stage_costs(model));  // FLOPs, not times
  forward.per_pack = 0;                                                    // overhead is no work
  int64_t flops = 0;
  for (const auto& packs : plan.replica)
    for (const plan::PackPlan& pack : packs) flops += forward.cost(pack.rows, pack.pairs, pack.scores);
  return flops;
}

}  // namespace

std::map<std::string, double> report_step(const StepRecord& record, const RankSums& sums, int64_t tokens_seen,
                                          const ReportFacts& facts) {
  const plan::StepPlan& plan = record.planned.plan;
  std::map<std::string, double> values = record.metrics;
  values["grad_norm"] = record.grad_norm;
  values["learning_rate"] = record.learning_rate;
  values["seconds"] = record.seconds;
  values.insert(sums.named.begin(), sums.named.end());
  values["measured_seconds"] = sums.measured_seconds;
  add_plan(values, record.planned, sums, facts.mesh);
  const double ranks = facts.mesh.size(), longest = sums.measured_seconds;
  values["bubble"] = longest > 0 ? 1.0 - sums.busy / (longest * ranks) : 0.0;
  values["exposed_communication"] = sums.exposed / (record.seconds * ranks);
  values["num_tokens"] = static_cast<double>(tokens_seen);
  values["tokens_logical"] = static_cast<double>(plan.totals.tokens_logical);
  values["tokens_computed"] = static_cast<double>(plan.totals.tokens_computed);
  values["sharing_ratio"] = plan.totals.sharing_ratio();
  values["tokens_per_second"] = static_cast<double>(plan.totals.tokens_logical) / record.seconds;
  const double peak = facts.peak_tflops * 1e12 * ranks;
  values["mfu"] = peak > 0
                      ? facts.passes * static_cast<double>(forward_flops(plan, facts.model)) / record.seconds / peak
                      : std::numeric_limits<double>::quiet_NaN();
  return values;
}

void TrafficMeter::leave_out(const std::map<std::string, comm::Traffic>& carried) {
  for (const auto& [axis, traffic] : carried)
    before_[axis].bytes += traffic.bytes, before_[axis].messages += traffic.messages;
}

std::map<std::string, comm::Traffic> TrafficMeter::since_last(const comm::Mesh& mesh) {
  std::map<std::string, comm::Traffic> since;
  for (const comm::Communicator* axis :
       {&mesh.dp_cp(), &mesh.pp(), &mesh.pp_gradient(), &mesh.cp(), &mesh.cp_gradient(), &mesh.tp()}) {
    const comm::Traffic now = axis->traffic();
    comm::Traffic& before = before_[axis->axis()];
    since[axis->axis()] = {.bytes = now.bytes - before.bytes, .messages = now.messages - before.messages};
    before = now;
  }
  return since;
}

}  // namespace fpdist::trainer
