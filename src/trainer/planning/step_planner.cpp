#include "src/trainer/planning/step_planner.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/core/words.hpp"
#include "src/plan/costs/costs_file.hpp"
#include "src/trainer/agreement/same_groups.hpp"

namespace fpdist::trainer {
namespace {

constexpr double kDoubtful = 0.25;  // mean error beyond which a fit says little
constexpr const char* kDifferentPlans =
    ": the ranks planned different steps from the same groups, config and files: please report this";
constexpr int64_t kMostOps = int64_t{1} << 17;  // that one fit asks for

}  // namespace

StepPlanner::StepPlanner(const Job& job, PlannerHooks hooks, int64_t shared_from)
    : job_(job), hooks_(std::move(hooks)), costs_(job.settled.costs), machine_(job, shared_from) {}

PlanBy StepPlanner::planner_of(std::span<const data::Group> groups) const {
  if (!machine_.are_shared(groups)) return PlanBy::kSelf;
  return machine_.is_first() ? PlanBy::kFirst : PlanBy::kOther;
}

StepGroups StepPlanner::prepared(std::span<const data::Group> groups, int64_t number) const {
  return hooks_.prepare ? hooks_.prepare(groups, number) : StepGroups{.all = groups};
}

void StepPlanner::ahead(std::shared_ptr<const std::vector<data::Group>> groups, int64_t number) {
  StepGroups ready = prepared(*groups, number);
  if (!ready.owner) ready.owner = groups;
  auto plan = [this, ready = std::move(ready), planning = planning_config(job_.config, steps_watched_ + 1),
               made_with = costs_, version = costs_version_, by = planner_of(ready.all), number] {
    PlannedStep planned = plan_step(ready, planning, made_with, version, by);
    planned.number = number;
    if (hooks_.lay_out && by != PlanBy::kOther && planned.refusal.empty()) hooks_.lay_out(planned);
    return planned;
  };
  coming_.push_back({std::move(groups), std::async(std::launch::async, std::move(plan))});
}

std::optional<PlannedStep> StepPlanner::take_coming(std::span<const data::Group> groups) {
  const auto found = std::find_if(coming_.begin(), coming_.end(), [&](const Coming& step) {
    return step.given->data() == groups.data() && step.given->size() == groups.size();
  });
  if (found == coming_.end()) return std::nullopt;
  std::future<PlannedStep> planned = std::move(found->planned);
  coming_.erase(coming_.begin(), found + 1);  // steps that were left out are not wanted any more
  return planned.get();
}

PlannedStep StepPlanner::take(std::span<const data::Group> groups, int64_t number) {
  const auto start = Clock::now();
  const comm::SlowWork slow(job_.mesh.world(), text("planning step ", number));
  std::optional<PlannedStep> made = take_coming(groups);
  if (made && made->number != number && job_.model.adapter.prefix.drop > 0) made.reset();
  if (!made || made->costs_version != costs_version_) {
    const StepGroups ready = made ? made->groups : prepared(groups, number);
    made.emplace(
        plan_step(ready, planning_config(job_.config, steps_watched_), costs_, costs_version_, planner_of(ready.all)));
  }
  PlannedStep planned = std::move(*made);
  if (planned.uploads) planned.uploads->wait();
  planned.waited = seconds_since(start);
  planned.number = number, planned.name = text("step ", number), planned.is_first = !std::exchange(has_taken_, true);
  check_same(planned);
  if (planned.is_shared) machine_.share(planned), check_same_plan(planned);
  planned.expected_seconds = watch_.planned_seconds(planned.forecast.makespan);
  return planned;
}

PlannedStep StepPlanner::plan_apart(std::span<const data::Group> groups) const {
  PlannedStep planned = plan_step({.all = groups}, job_.config, costs_, costs_version_);
  if (hooks_.lay_out) hooks_.lay_out(planned);
  return planned;
}

plan::StepPlan StepPlanner::plan(std::span<const data::Group> groups, bool share) const {
  plan::PackOptions options = job_.config.pack;
  options.share_prefix = share;
  return plan::make_step_plan(groups, loss::spec_of(job_.config.method, job_.config.loss).atomic(),
                              job_.config.parallel, costs_, options);
}

PlannerState StepPlanner::state() const {
  return {.costs = plan::to_text(costs_),
          .costs_version = costs_version_,
          .steps_watched = steps_watched_,
          .seconds_per_unit = watch_.fixed()};
}

void StepPlanner::go_on_from(const PlannerState& state, bool with_costs) {
  coming_.clear();
  costs_version_ = state.costs_version, steps_watched_ = state.steps_watched;
  if (!with_costs) return;
  const bool recompute = costs_.recompute;  // this run's
  costs_ = plan::parse_costs(state.costs, "the checkpoint's costs");
  costs_.recompute = recompute;
  if (state.seconds_per_unit > 0) watch_.fix(state.seconds_per_unit);
}

void StepPlanner::check_same(const PlannedStep& planned) const {
  at::Tensor low = at::tensor({static_cast<int64_t>(planned.samples.high), static_cast<int64_t>(planned.samples.low),
                               planned.is_shared ? 0 : static_cast<int64_t>(planned.plan.hash)},
                              at::kLong);
  at::Tensor high = low.clone();
  job_.mesh.world().all_reduce(low, comm::ReduceOp::kMin);
  job_.mesh.world().all_reduce(high, comm::ReduceOp::kMax);
  const at::Tensor differs = low.ne(high);
  if (differs[0].item<bool>() || differs[1].item<bool>())
    check_same_groups(
        planned.groups.all, [](size_t group) { return text("group ", group, " of the step"); }, job_.mesh.world(),
        text(planned.name, ": the ranks were given different samples"),
        "give step() and evaluate() the same groups in the same order on every rank (Trainer::gather_groups brings "
        "them together)");
  check<CommError>(!differs[2].item<bool>(), planned.name, ", rank ", job_.world.rank(), kDifferentPlans);
}

/// Of a plan that one rank of each machine has made.
void StepPlanner::check_same_plan(const PlannedStep& planned) const {
  at::Tensor low = at::full({1}, static_cast<int64_t>(planned.plan.hash), at::kLong), high = low.clone();
  job_.mesh.world().all_reduce(low, comm::ReduceOp::kMin);
  job_.mesh.world().all_reduce(high, comm::ReduceOp::kMax);
  check<CommError>(low.equal(high), planned.name, ", rank ", job_.world.rank(), kDifferentPlans);
}

void StepPlanner::learn(const PlannedStep& planned, std::span<const plan::Op> ops,
                        std::span<const parallel::OpTime> times, double measured_seconds, LogSink& log) {
  const int64_t calibrates = job_.config.plan.calibrate_steps;
  ++steps_watched_;
  if (calibrates > 0)
    op_history_.add(timed_ops(planned, job_.mesh.shape(), job_.mesh.at(), job_.config.parallel.layers, ops, times),
                    index(steps_watched_ <= calibrates ? calibrates : int64_t{PlanWatch::kPatience}));
  const bool is_off = watch_.add(planned.forecast.makespan, measured_seconds);
  const std::string why =
      text("the last ", PlanWatch::kPatience, " steps took more than ", percent(PlanWatch::kTolerance),
           " more or less than planned (this one ", measured_seconds, " s, planned ", planned.expected_seconds, " s)");
  if (steps_watched_ == calibrates)
    calibrate("", planned.number, log);
  else if (is_off && calibrates > 0 && steps_watched_ > calibrates)
    calibrate(why, planned.number, log);
  else if (is_off && calibrates == 0)
    log.warning(text("step ", planned.number, ": ", why, ": plans are made for another machine than this; ",
                     job_.config.plan.costs.empty() ? "set" : "instead of plan.costs set",
                     " plan.calibrate_steps: 5 to plan with costs measured here"));
}

void StepPlanner::calibrate(const std::string& why, int64_t step, LogSink& log) {
  comm::Communicator& world = job_.mesh.world();
  const comm::SlowWork slow(world, text("fitting costs after step ", step));
  const auto ops = gather_ops(op_history_.all(), kMostOps, static_cast<uint64_t>(step), world);
  const plan::CostFit fit = fit_together(ops, costs_, world);
  if (fit.ops == 0) {
    log.warning(text("step ", step, ": plan.calibrate_steps found no operation to measure; costs stay"));
    return;
  }
  costs_ = fit.costs;
  ++costs_version_;  // plans under way are made again
  watch_.fix(fit.seconds_per_unit);
  const std::string what =
      text("costs fitted to ", fit.ops, " operations of ", job_.world.size(), " ranks up to step ", step,
           ": mean error ", percent(fit.mean_error), ", worst ", percent(fit.worst_error),
           " (fitted to every other operation, asked for the rest); ", fit.seconds_per_unit, " seconds a unit");
  if (!costs_file_.empty() && job_.world.rank() == 0)
    plan::write_costs(costs_, what, costs_file_, fit.seconds_per_unit);
  const bool is_doubtful = fit.mean_error > kDoubtful;
  log.write(
      why.empty() && !is_doubtful ? LogLevel::kInfo : LogLevel::kWarning,
      text(why, why.empty() ? "" : ": ", what, "; plans use them from step ", step + 1, " on",
           costs_file_.empty() ? "" : text("; plan.costs: ", costs_file_, " repeats these plans"),
           is_doubtful ? "; an error so large says that the machine was shared: measure with nothing beside" : ""));
}

}  // namespace fpdist::trainer
