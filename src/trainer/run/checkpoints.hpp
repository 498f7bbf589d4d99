#pragma once
// trainer (private): RunCheckpoints, when a run saves, and which of its checkpoints stay.

#include <cstdint>
#include <functional>
#include <string>

#include "fpdist/core/log.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/trainer/run/rotation.hpp"

namespace fpdist::trainer {

/// How long a run and one of its epochs are.
struct RunLength {
  int64_t steps = 0, steps_per_epoch = 0;
};

class RunCheckpoints {
 public:
  /// A checkpoint's notes, asked for when it is saved.
  using Notes = std::function<std::string()>;

  /// Both must outlive it.
  RunCheckpoints(Trainer& trainer, RunLength length, LogSink& log);
  /// Collective, after each step: goes on with a save that is under way, and saves where this step is one to save
  /// after, or where the run stops here: then a training state that is there when the call returns. Throws DiskError.
  void after_step(int64_t step, bool stops, const Notes& notes);
  /// Whether train.save_strategy wants a checkpoint after this step.
  bool is_due(int64_t step) const;
  /// The checkpoint of this step is the best so far and stays, whatever is removed; 0: there is none.
  void keep(int64_t step) { best_ = step; }
  /// Collective. Nothing is under way any more.
  void finish();
  /// Of a step's checkpoint.
  std::string folder(int64_t step) const;

 private:
  Rotation rotation(int64_t newest) const;
  SparedFile spared_files() const;
  void save_state(int64_t step, bool beside_steps, const Notes& notes);
  void save_model(int64_t step);
  void note_saved();

  Trainer& trainer_;
  const TrainOptions& options_;
  RunLength length_;
  LogSink& log_;
  NullLog quiet_;  // what there is to say of exports is said of the last
  int64_t best_ = 0;
  std::string under_way_;  ///< the folder that is being saved
};

}  // namespace fpdist::trainer
