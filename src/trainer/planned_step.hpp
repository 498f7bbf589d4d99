#pragma once
// trainer (private): a step's plan, and what its costs say it will take. Made on a thread of its own, one step ahead.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/plan/costs/amount.hpp"

namespace fpdist::trainer {

using config::Config;

/// In cost units, integers: nothing here has seen a clock.
struct Forecast {
  std::vector<std::vector<plan::Amount>> work;  ///< [dp][units]: packs in order, each one's slices in order
  std::vector<std::vector<int64_t>> busy;       ///< [dp][pp] time in operations
  int64_t makespan = 0;                         ///< slowest replica's pipeline
  int64_t peak_rows = 0;                        ///< most rows in flight on a stage of any replica
};

/// What each unit of replica `d` is made of; layouts are made for packs in slices only.
std::vector<plan::Amount> unit_work(std::span<const data::Group> groups, const plan::StepPlan& plan, int d, bool share);

/// Simulates every replica's pipeline. `config.parallel.layers` must be given.
Forecast forecast_step(std::span<const data::Group> groups, const plan::StepPlan& plan, const Config& config,
                       const plan::StageCosts& costs);

class Packs;

struct PlannedStep {
  plan::StepPlan plan;
  Forecast forecast;
  double seconds = 0;         ///< of the thread that planned
  double waited = 0;          ///< of the step that needed it
  int64_t costs_version = 0;  ///< Trainer::Impl::costs_version that it was planned with
  /// Laid out ahead and on their way to the device; null: laid out when they are asked for.
  std::shared_ptr<Packs> packs;
  /// Their way there; null with them. Behind them: it ends before they do.
  std::unique_ptr<comm::Ahead> uploads;
};

/// What step `step` (0-based, of this process) is planned with: while plan.calibrate_steps last, every other step's
/// packs go through the pipeline in slices (of 4, 2 and 8 in turn), so that small operations are timed as well as whole
/// packs. Without them a fit cannot tell what launching an operation costs, which is what decides whether slices pay.
Config planning_config(const Config& config, int64_t step);

/// Not collective.
PlannedStep plan_step(std::span<const data::Group> groups, const Config& config, const plan::StageCosts& costs,
                      int64_t costs_version);

}  // namespace fpdist::trainer
