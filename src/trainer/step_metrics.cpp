// What a step cost: tokens, time, waiting, traffic.

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "src/plan/costs/unit_cost.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {
namespace {

bool computes(plan::OpKind kind) {
  return kind == plan::OpKind::kForward || kind == plan::OpKind::kBackwardInput ||
         kind == plan::OpKind::kBackwardWeight;
}

bool communicates(plan::OpKind kind) { return !computes(kind) && kind != plan::OpKind::kOptimizerStep; }

}  // namespace

void Trainer::Impl::add_step_metrics(std::map<std::string, double>& values, const PlannedStep& planned,
                                     std::span<const plan::Op> ops, std::span<const parallel::OpTime> times,
                                     double exchange_seconds) {
  const plan::StepPlan& plan = planned.plan;
  double busy = 0, span = 0;  // until the last compute op has ended
  double exposed = exchange_seconds;
  for (size_t i = 0; i < ops.size(); ++i) {
    const double seconds = times[i].end - times[i].begin;
    if (computes(ops[i].kind)) busy += seconds, span = times[i].end;
    if (communicates(ops[i].kind)) exposed += seconds;
  }

  MetricSums sums;
  sums.add("busy", loss::Combine::kSum, busy);
  sums.add("span", loss::Combine::kMax, span);
  if (!device->where().is_cpu()) {
    const comm::MemoryUse memory = device->memory();
    sums.add("memory/peak_bytes", loss::Combine::kMax, static_cast<double>(memory.peak));
    sums.add("memory/bytes", loss::Combine::kMax, static_cast<double>(memory.bytes));
  }
  sums.add("exposed", loss::Combine::kSum, exposed);
  for (const comm::Communicator* axis :
       {&mesh.dp_cp(), &mesh.pp(), &mesh.pp_gradient(), &mesh.cp(), &mesh.cp_gradient(), &mesh.tp()}) {
    const comm::Traffic now = axis->traffic();
    comm::Traffic& before = traffic_before[axis->axis()];
    sums.add("comm/" + axis->axis() + "_bytes", loss::Combine::kSum, static_cast<double>(now.bytes - before.bytes));
    sums.add("comm/" + axis->axis() + "_messages", loss::Combine::kSum,
             static_cast<double>(now.messages - before.messages));
    before = now;
  }
  auto all = sums.reduce(mesh.world());
  const double ranks = world.size(), all_busy = all.extract("busy").mapped(), longest = all.extract("span").mapped();
  const double all_exposed = all.extract("exposed").mapped();
  values.merge(all);
  values["measured_seconds"] = longest;
  add_plan_metrics(values, planned, busy);
  values["bubble"] = longest > 0 ? 1.0 - all_busy / (longest * ranks) : 0.0;
  values["exposed_communication"] = all_exposed / (values["seconds"] * ranks);
  values["num_tokens"] = static_cast<double>(tokens_seen);
  values["tokens_logical"] = static_cast<double>(plan.totals.tokens_logical);
  values["tokens_computed"] = static_cast<double>(plan.totals.tokens_computed);
  values["sharing_ratio"] = plan.totals.sharing_ratio();
  values["tokens_per_second"] = static_cast<double>(plan.totals.tokens_logical) / values["seconds"];
  plan::CostTable forward = plan::forward_cost(plan::stage_costs(model.shape()));  // FLOPs, not times
  forward.per_pack = 0;                                                                   // overhead is no work
  int64_t flops = 0;  // forward; backward is twice that
  for (const auto& packs : plan.replica)
    for (const plan::PackPlan& pack : packs) flops += forward.cost(pack.rows, pack.pairs, pack.scores);
  const double peak = config.train.peak_tflops * 1e12 * ranks;
  values["mfu"] =
      peak > 0 ? 3.0 * static_cast<double>(flops) / values["seconds"] / peak : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace fpdist::trainer
