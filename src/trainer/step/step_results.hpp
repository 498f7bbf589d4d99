#pragma once
// trainer (private): what a step leaves on the device, read in one copy.

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/report/metric_sums.hpp"
#include "src/trainer/step/step_guard.hpp"
#include "src/trainer/weights/weights.hpp"

namespace fpdist::trainer {

/// What a step's packs add up to on this rank before anything is reduced.
struct StepResults {
  MetricSums metrics;
  std::vector<at::Tensor> loss;    ///< [packs at the loss here] 0-dim and still on the device
  std::vector<std::string> packs;  ///< of each of them, as text: "pack 2, samples (group.index) 3.0, 3.1"
  std::optional<Updated> updated;  ///< nothing: a verification
  // Once they are read:
  std::vector<double> losses = {};  ///< `loss`
  double grad_norm = 0;             ///< 0 without an update
  StepEnd end = StepEnd::kUpdated;  ///< the same on every rank; of an update
};

/// The host's one wait for the device; results.metrics can be reduced then.
void read_results(StepResults& results, comm::Device& device);

/// "the loss is nan on rank 3 in pack 2, samples ..."; "" where all losses of this rank are finite.
std::string bad_loss(const StepResults& results, const Job& job);

/// Throws NumericsError with the message of the highest rank that has one; returns when none has. Collective.
void throw_together(const std::string& own, comm::Communicator& world);

}  // namespace fpdist::trainer
