// What a step cost: tokens, time, waiting, traffic.

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "src/trainer/state.hpp"

namespace fpdist::trainer {
namespace {

bool computes(plan::OpKind kind) {
  return kind == plan::OpKind::kForward || kind == plan::OpKind::kBackwardInput ||
         kind == plan::OpKind::kBackwardWeight;
}

/// In ops that do nothing but communicate, waiting for a peer included.
double seconds_in_messages(std::span<const plan::Op> ops, std::span<const parallel::OpTime> times) {
  double seconds = 0;
  for (size_t i = 0; i < ops.size(); ++i)
    if (!computes(ops[i].kind) && ops[i].kind != plan::OpKind::kOptimizerStep) seconds += times[i].end - times[i].begin;
  return seconds;
}

}  // namespace

void Trainer::Impl::add_step_metrics(std::map<std::string, double>& values, const plan::StepPlan& plan,
                                     std::span<const plan::Op> ops, std::span<const parallel::OpTime> times) {
  double busy = 0, span = 0;  // until the last compute op has ended
  for (size_t i = 0; i < ops.size(); ++i)
    if (computes(ops[i].kind)) busy += times[i].end - times[i].begin, span = times[i].end;

  MetricSums sums;
  sums.add("busy", loss::Combine::kSum, busy);
  sums.add("span", loss::Combine::kMax, span);
  sums.add("seconds_in_messages", loss::Combine::kSum, seconds_in_messages(ops, times));
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
  values.merge(all);
  values["bubble"] = longest > 0 ? 1.0 - all_busy / (longest * ranks) : 0.0;
  values["num_tokens"] = static_cast<double>(tokens_seen);
  values["tokens_logical"] = static_cast<double>(plan.totals.tokens_logical);
  values["tokens_computed"] = static_cast<double>(plan.totals.tokens_computed);
  values["sharing_ratio"] = plan.totals.sharing_ratio();
  values["tokens_per_second"] = static_cast<double>(plan.totals.tokens_logical) / values["seconds"];
  plan::CostTable forward = plan::forward_cost(costs);
  forward.per_pack = 0;  // overhead is no work
  int64_t flops = 0;     // forward; backward is twice that
  for (const auto& packs : plan.replica)
    for (const plan::PackPlan& pack : packs) flops += forward.cost(pack.rows, pack.pairs, pack.edges);
  const double peak = config.train.peak_tflops * 1e12 * ranks;
  values["mfu"] =
      peak > 0 ? 3.0 * static_cast<double>(flops) / values["seconds"] / peak : std::numeric_limits<double>::quiet_NaN();
  // What compute did not hide: of tp and cp, whose messages travel inside compute ops, nothing is known here.
  const double exposed =
      values.extract("seconds_in_messages").mapped() + values.extract("seconds_in_exchange").mapped();
  values["exposed_communication"] = exposed / (values["seconds"] * ranks);
}

}  // namespace fpdist::trainer
