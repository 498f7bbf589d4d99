#pragma once
// trainer (private): a step's plan, and what its costs say it will take. Made on a thread of its own, one step ahead.

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/core/mesh_shape.hpp"
#include "fpdist/plan/op.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/core/checksum.hpp"
#include "src/plan/costs/amount.hpp"

namespace fpdist::trainer {

using config::Config;

/// The groups of a step as it computes them.
struct StepGroups {
  std::span<const data::Group> all;
  /// What `all` lies in; null: the caller's own, which outlive the step.
  std::shared_ptr<const std::vector<data::Group>> owner = nullptr;
  std::map<std::string, double> metrics = {};  ///< what was seen on the way here: rewards
};

/// In cost units, integers: nothing here has seen a clock.
struct Forecast {
  std::vector<std::vector<plan::Amount>> work;  ///< [dp][units]: packs in order, each one's slices in order
  std::vector<std::vector<int64_t>> busy;       ///< [dp][pp] time in operations
  int64_t makespan = 0;                         ///< slowest replica's pipeline
  int64_t peak_rows = 0;                        ///< most rows in flight on a stage of any replica
};

class Packs;

struct PlannedStep {
  StepGroups groups;
  Digest samples;  ///< of everything in `groups`
  plan::StepPlan plan;
  bool is_shared = false;     ///< one rank of each machine makes it (MachinePlans)
  std::string refusal;        ///< why a shared plan cannot be; empty: it can
  bool shares_prefix = true;  ///< `plan` was made so
  int64_t number = 0;         ///< of the step in the run, 1-based; 0: it is none
  std::string name;           ///< "step 3", for positions and messages
  bool is_first = false;      ///< of this process
  Forecast forecast;
  double seconds = 0;           ///< of the thread that planned
  double waited = 0;            ///< of the step that needed it
  double expected_seconds = 0;  ///< of its pipeline; NaN while no step has told how long a cost unit takes
  plan::PackOptions pack;       ///< that it was planned with
  plan::StageCosts costs;       ///< likewise
  int64_t costs_version = 0;    ///< theirs, see StepPlanner
  /// Mismatched samples that the loss looks at ahead of the step (loss::StepView), planned as steps are; null: none.
  std::shared_ptr<PlannedStep> mismatched = nullptr;
  /// Laid out ahead and on their way to the device; null: laid out when they are asked for.
  std::shared_ptr<Packs> packs;
  /// Their way there; null with them. Behind them: it ends before they do.
  std::unique_ptr<comm::Ahead> uploads;
};

/// What the rank at `at` does in the step.
std::vector<plan::Op> ops_of(const plan::StepPlan& plan, const Coordinates& at);

/// What each unit of replica `d` is made of; layouts are made for packs in slices only.
std::vector<plan::Amount> unit_work(std::span<const data::Group> groups, const plan::StepPlan& plan, int d, bool share);

/// Simulates every replica's pipeline. `config.parallel.layers` must be given.
Forecast forecast_step(std::span<const data::Group> groups, const plan::StepPlan& plan, const Config& config,
                       const plan::StageCosts& costs);

/// What step `step` (0-based, of this process) is planned with: while plan.calibrate_steps last, every other step's
/// packs go through the pipeline in slices (of 4, 2 and 8 in turn), so that small operations are timed as well as whole
/// packs. Without them a fit cannot tell what launching an operation costs, which is what decides whether slices pay.
Config planning_config(const Config& config, int64_t step);

/// Who makes a step's plan.
enum class PlanBy : uint8_t {
  kSelf,   ///< this rank, for itself
  kFirst,  ///< this rank, for its machine: what planning throws becomes its `refusal`
  kOther   ///< another rank: plans and forecast stay empty
};
/// Not collective.
PlannedStep plan_step(StepGroups groups, const Config& config, const plan::StageCosts& costs, int64_t costs_version,
                      PlanBy by = PlanBy::kSelf);

}  // namespace fpdist::trainer
