#pragma once
// trainer (private): what a step leaves on the device, read in one copy; NaN and Inf in it: every rank stops with the
// same words.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/report/metric_sums.hpp"
#include "src/trainer/weights/weights.hpp"

namespace fpdist::trainer {

/// What a step's packs add up to on this rank before anything is reduced.
struct StepResults {
  MetricSums metrics;
  std::vector<at::Tensor> loss;      ///< [packs at the loss here] 0-dim and still on the device
  std::vector<std::string> samples;  ///< of each of them, as text
  std::optional<Updated> updated;    ///< nothing: a verification
};

/// Collective over the world: the host's one wait for the device. Returns the gradient's norm, 0 without an update;
/// results.metrics can be reduced then. Throws NumericsError on every rank if a loss or the norm is not finite: the
/// update has changed nothing then. `step`: its number, for the message.
double read_results(StepResults& results, const Weights& weights, const Job& job, int64_t step);

/// Throws NumericsError with the message of the highest rank that has one; returns when none has. Collective.
void throw_together(const std::string& own, comm::Communicator& world);

}  // namespace fpdist::trainer
