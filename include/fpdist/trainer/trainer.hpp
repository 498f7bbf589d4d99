#pragma once
// trainer: one optimizer step after another. train_step is the whole system in one screen:
// plan -> execute -> reduce -> clip -> update -> metrics.

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/ops/parameter.hpp"
#include "fpdist/plan/step_plan.hpp"

namespace fpdist::trainer {

using config::Config;

/// One step's line of metrics.jsonl, on every rank the same.
struct StepMetrics {
  int64_t step = 0;                      ///< 1-based
  std::map<std::string, double> values;  ///< TRL's names plus tokens_logical, tokens_computed, sharing_ratio, ...
};

class Trainer {
 public:
  /// Collective over the world. Loads the model (and the reference), shards the optimizer. Both references must outlive
  /// it. `device`: where to compute; null: what model.device says.
  Trainer(comm::World& world, Config config, LogSink& log, std::unique_ptr<comm::Device> device = nullptr);
  ~Trainer();

  /// Replaces the configured method's loss by your own; same calls on every rank.
  void set_loss(loss::LossFunction loss);
  /// Called after every step on every rank.
  void set_hook(std::function<void(const StepMetrics&)> hook);

  /// Collective. One optimizer step on these groups: the same groups in the same order on every rank.
  /// Throws NumericsError naming step, rank and samples when loss or gradients are not finite.
  StepMetrics step(std::span<const data::Group> groups);
  /// Collective over the world. For loops in which every rank makes samples of its own: all ranks' groups, in rank
  /// order, on every rank, ready for step(). Ids are given anew, 0, 1, ... in that order. A rank may give none; ranks
  /// that work on the same rollouts (tp, cp and pp ranks of one engine) give them once, not each.
  std::vector<data::Group> gather_groups(std::span<const data::Group> own) const;
  /// Collective. Reads the data, trains max_steps steps, writes config.resolved.yaml (from which as many ranks
  /// repeat the run), metrics.jsonl, logs, checkpoints and final/ into output_dir.
  void train();
  /// Collective. Writes the weights as a Hugging Face directory.
  void save(const std::string& directory);
  /// Collective, for inspection and tests: every whole weight, or the last step's whole clipped gradient, by Hugging
  /// Face name on rank 0; nothing on the others. Holds the whole model in memory.
  std::map<std::string, at::Tensor> gather_weights();
  std::map<std::string, at::Tensor> gather_gradients();
  /// This rank's slices of the policy's weights and main grads. Not collective. After a step weights may still be on
  /// their way between the ranks: this call and the result's value() wait for them, a Parameter's value that was kept
  /// over a step does not.
  ops::FlatParameters& parameters();

  struct Impl;  ///< the library's own

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace fpdist::trainer
