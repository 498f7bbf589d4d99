#include "src/trainer/planning/planned_step.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "fpdist/loss/loss.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/plan/schedule/simulate.hpp"
#include "src/prefix/forest.hpp"
#include "src/trainer/agreement/same_groups.hpp"

namespace fpdist::trainer {
namespace {

/// Work of every slice of a pack.
std::vector<plan::Amount> slice_work(std::span<const data::Group> groups, const plan::PackPlan& pack, bool share) {
  const prefix::TreeLayout layout = plan::lay_out(groups, pack, share);
  std::vector<plan::Amount> work(pack.slice_end.size());
  const auto slice_of = [&](int32_t row) {
    const auto end = std::upper_bound(pack.slice_end.begin(), pack.slice_end.end(), row);
    return index(end - pack.slice_end.begin());
  };
  for (int32_t row = 0; row < static_cast<int32_t>(layout.rows()); ++row) {
    plan::Amount& slice = work[slice_of(row)];
    ++slice.rows, slice.pairs += prefix::visible_pairs(layout.depth[index(row)], 1);
  }
  for (const int32_t row : layout.score_row) ++work[slice_of(row)].edges;
  return work;
}

}  // namespace

std::vector<plan::Op> ops_of(const plan::StepPlan& plan, const Coordinates& at) {
  return plan::pipeline_ops(plan.pipeline(at.dp))[index(at.pp)];
}

std::vector<plan::Amount> unit_work(std::span<const data::Group> groups, const plan::StepPlan& plan, int d,
                                    bool share) {
  std::vector<plan::Amount> units;
  for (const plan::PackPlan& pack : plan.replica.at(index(d))) {
    if (pack.slice_end.size() == 1) {
      units.push_back({pack.rows, pack.pairs, pack.scores});
      continue;
    }
    const std::vector<plan::Amount> slices = slice_work(groups, pack, share);
    units.insert(units.end(), slices.begin(), slices.end());
  }
  return units;
}

Forecast forecast_step(std::span<const data::Group> groups, const plan::StepPlan& plan, const Config& config,
                       const plan::StageCosts& costs) {
  Forecast forecast;
  for (int d = 0; d < static_cast<int>(plan.replica.size()); ++d) {
    const auto& work = forecast.work.emplace_back(unit_work(groups, plan, d, config.pack.share_prefix));
    std::vector<plan::UnitCost> units;
    for (const plan::Amount& unit : work) units.push_back(plan::unit_cost(costs, unit));
    const plan::PipelineShape shape = plan.pipeline(d);
    plan::Simulation replica = plan::simulate(shape, plan::pipeline_ops(shape), units, config.parallel.layers);
    forecast.makespan = std::max(forecast.makespan, replica.makespan);
    forecast.peak_rows = std::max(forecast.peak_rows, replica.peak_rows);
    forecast.busy.push_back(std::move(replica.busy));
  }
  return forecast;
}

Config planning_config(const Config& config, int64_t step) {
  Config planning = config;
  const bool is_measured = step < config.plan.calibrate_steps && config.parallel.pp > 1;
  constexpr std::array<int, 3> kSlices{4, 2, 8};
  if (is_measured && step % 2 == 1 && config.pack.slices == 0)
    planning.pack.slices = kSlices[index(step / 2) % kSlices.size()];
  return planning;
}

namespace {

/// Null where the loss looks at none.
std::shared_ptr<PlannedStep> mismatched_of(std::span<const data::Group> groups, const Config& config) {
  if (loss::needs_of(config.method, config.loss).step != loss::StepView::kMismatched) return nullptr;
  const int64_t longest = std::min(config.data.max_length, config.pack.max_tokens);
  const auto made = std::make_shared<std::vector<data::Group>>(loss::mismatched(groups, longest));
  auto planned = std::make_shared<PlannedStep>();
  planned->groups = {.all = *made, .owner = made};
  planned->shares_prefix = config.pack.share_prefix;
  return planned;
}

void make_plans(std::span<const data::Group> groups, const Config& config, const plan::StageCosts& costs,
                PlannedStep& planned) {
  if (planned.mismatched)
    planned.mismatched->plan = plan::make_step_plan(planned.mismatched->groups.all, plan::Atomic::kSamples,
                                                    config.parallel, costs, config.pack);
  planned.plan = plan::make_step_plan(groups, loss::spec_of(config.method, config.loss).atomic(), config.parallel,
                                      costs, config.pack);
  planned.forecast = forecast_step(groups, planned.plan, config, costs);
}

}  // namespace

PlannedStep plan_step(StepGroups groups, const Config& config, const plan::StageCosts& costs, int64_t costs_version,
                      PlanBy by) {
  const auto start = Clock::now();
  PlannedStep planned;
  planned.mismatched = mismatched_of(groups.all, config);
  planned.samples = digest_of(groups.all);
  planned.shares_prefix = config.pack.share_prefix;
  planned.is_shared = by != PlanBy::kSelf;
  try {
    if (by != PlanBy::kOther) make_plans(groups.all, config, costs, planned);
  } catch (const ConfigError& error) {
    if (by == PlanBy::kSelf) throw;
    planned.refusal = error.what();
  }
  planned.pack = config.pack, planned.costs = costs, planned.costs_version = costs_version;
  planned.groups = std::move(groups);
  planned.seconds = seconds_since(start);
  return planned;
}

}  // namespace fpdist::trainer
