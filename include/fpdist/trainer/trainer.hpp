#pragma once
// trainer: one optimizer step after another. train_step is the whole system in one screen:
// plan -> execute -> reduce -> clip -> update -> metrics.

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "fpdist/trainer/options.hpp"

namespace fpdist::trainer {

/// One step's line of metrics.jsonl, on every rank the same.
struct StepMetrics {
  int64_t step = 0;                       ///< 1-based
  std::map<std::string, double> values;   ///< TRL's names plus tokens_logical, tokens_computed, sharing_ratio, ...
};

class Trainer {
 public:
  /// Collective over the world. Loads the model (and the reference), shards the optimizer. Both references must outlive it.
  Trainer(comm::World& world, Config config, LogSink& log);
  ~Trainer();

  /// Replaces the configured method's loss by your own; same calls on every rank.
  void set_loss(loss::LossFunction loss);
  /// Called after every step on every rank.
  void set_hook(std::function<void(const StepMetrics&)> hook);

  /// Collective. One optimizer step on these groups: the same groups in the same order on every rank.
  /// Throws NumericsError naming step, rank and samples when loss or gradients are not finite.
  StepMetrics step(std::span<const data::Group> groups);
  /// Collective. Reads the data, trains max_steps steps, writes metrics.jsonl, checkpoints and final/.
  void train();
  /// Collective. Writes the weights as a Hugging Face directory.
  void save(const std::string& directory);
  /// Not collective, trains nothing: sharing, packs and memory per rank of the first steps as text.
  std::string describe_plan();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fpdist::trainer
