#pragma once
// trainer (private): StepPlanner, the only one who writes what steps are planned with. It plans steps, ahead where it
// is told what comes, holds their plans' times against the clock and measures costs when it is time to.

#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/parallel/pipeline/executor.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/planning/calibrate.hpp"
#include "src/trainer/planning/machine_plans.hpp"
#include "src/trainer/planning/plan_watch.hpp"
#include "src/trainer/planning/planned_step.hpp"

namespace fpdist::trainer {

/// What others do to a step on its way through the planner.
struct PlannerHooks {
  /// Ahead of planning, on the caller's thread: the groups as step number so-and-so computes them. Empty: as they are
  /// given.
  std::function<StepGroups(std::span<const data::Group>, int64_t)> prepare = {};
  /// Behind the planning of a step ahead, on the planner's thread. Empty: nothing.
  std::function<void(PlannedStep&)> lay_out = {};
};

/// How far measuring has come, for a later process.
struct PlannerState {
  std::string costs;  ///< plan::to_text of them
  int64_t costs_version = 0, steps_watched = 0;
  double seconds_per_unit = 0;  ///< as the last calibration fixed it; 0: none has
};

class StepPlanner {
 public:
  /// `job` must outlive it, and what `hooks` use.
  /// Steps of `shared_from` samples or more are planned once a machine.
  explicit StepPlanner(const Job& job, PlannerHooks hooks = {}, int64_t shared_from = MachinePlans::kFrom);

  /// Not collective. Plans these groups, the step after the next, on a thread of their own with the costs as they are
  /// now; take() is handed the same vector's elements. `number`: the step's, 1-based; where it turns out to be another,
  /// and that makes a difference (adapter.prefix_drop), it is planned again.
  void ahead(std::shared_ptr<const std::vector<data::Group>> groups, int64_t number);
  /// Collective over the world. The plan of step `number` (1-based): the one made ahead, or one made here where there
  /// is none or costs have changed since. Where it has packs, the current stream waits for them. DataError when the
  /// ranks' groups differ, CommError when only their plans do.
  PlannedStep take(std::span<const data::Group> groups, int64_t number);
  /// Collective. After each step: holds its plan's time against `measured_seconds` (of the slowest rank), and fits
  /// costs to `times` when it is time to; `log` hears of it.
  void learn(const PlannedStep& planned, std::span<const plan::Op> ops, std::span<const parallel::OpTime> times,
             double measured_seconds, LogSink& log);

  /// Not collective, any thread: groups that are no step of the run, planned with the costs as they are now and laid
  /// out as steps ahead are. Nothing will be learned of them.
  PlannedStep plan_apart(std::span<const data::Group> groups) const;
  /// Collective. DataError when the ranks' groups differ, CommError when only their plans do.
  void check_same(const PlannedStep& planned) const;
  /// Not collective: a plan alone, with the costs as they are now.
  plan::StepPlan plan(std::span<const data::Group> groups, bool share) const;
  const plan::StageCosts& costs() const { return costs_; }
  int64_t costs_version() const { return costs_version_; }  ///< how often they were measured
  double seconds_per_unit() const { return watch_.seconds_per_unit(); }
  PlannerState state() const;
  /// Goes on from `state`, with its costs where `with_costs`; steps planned ahead are planned again. Throws ConfigError
  /// for costs that are none.
  void go_on_from(const PlannerState& state, bool with_costs);
  /// Where measured costs are written; "": nowhere.
  void set_costs_file(std::string path) { costs_file_ = std::move(path); }

 private:
  /// A step that is planned ahead.
  struct Coming {
    std::shared_ptr<const std::vector<data::Group>> given;
    std::future<PlannedStep> planned;
  };
  StepGroups prepared(std::span<const data::Group> groups, int64_t number) const;
  PlanBy planner_of(std::span<const data::Group> groups) const;
  void check_same_plan(const PlannedStep& planned) const;
  std::optional<PlannedStep> take_coming(std::span<const data::Group> groups);
  void calibrate(const std::string& why, int64_t step, LogSink& log);

  const Job& job_;
  PlannerHooks hooks_;
  plan::StageCosts costs_;
  int64_t costs_version_ = 0, steps_watched_ = 0;
  bool has_taken_ = false;
  MachinePlans machine_;
  PlanWatch watch_;
  OpHistory op_history_;
  std::string costs_file_;
  std::deque<Coming> coming_;  ///< last: their threads are waited for before anything else goes
};

}  // namespace fpdist::trainer
