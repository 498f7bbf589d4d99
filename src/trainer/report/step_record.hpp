#pragma once
// trainer (private): StepRecord, one step that has run, as one rank saw it; RankSums, what all ranks saw together.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/comm/device.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/plan/op.hpp"
#include "src/parallel/pipeline/executor.hpp"
#include "src/trainer/planning/planned_step.hpp"
#include "src/trainer/planning/step_end.hpp"

namespace fpdist::trainer {

struct StepRecord {
  const PlannedStep& planned;
  std::vector<plan::Op> ops = {};
  std::vector<parallel::OpTime> times = {};  ///< [ops] each without its wait for weights that were on their way
  /// Seconds between ranks that belong to no op of communication: those waits, and what the optimizer step sends.
  double exchange_seconds = 0;
  std::map<std::string, comm::Traffic> traffic = {};     ///< this step's, by axis
  std::optional<comm::MemoryUse> memory = std::nullopt;  ///< of a device of its own
  double seconds = 0;                                    ///< of the host, from the groups to the last result

  // The same on every rank.
  std::map<std::string, double> metrics = {};  ///< of the groups and of the loss
  double grad_norm = 0, learning_rate = 0;
  StepEnd end = StepEnd::kUpdated;
  std::string fault = {};  ///< what is not finite, of which pack and from which layer on; "" where all is
};

/// Sums over ranks where nothing else is said.
struct RankSums {
  std::map<std::string, double> named = {};        ///< traffic and memory, by their names in metrics.jsonl
  double busy = 0, exposed = 0;                    ///< seconds in computing ops, and between ranks
  double measured_seconds = 0;                     ///< until the slowest rank's last computing op has ended
  std::vector<double> busy_of = {};                ///< [dp][pp] seconds in computing ops
  double plan_seconds = 0, plan_wait_seconds = 0;  ///< of the slowest rank
};

/// Collective over the mesh's world; `own` has ops, times, traffic, memory and exchange_seconds.
RankSums add_up(const StepRecord& own, const comm::Mesh& mesh);

}  // namespace fpdist::trainer
