#include "src/trainer/run/checkpoints.hpp"

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/files/folders.hpp"

namespace fpdist::trainer {

RunCheckpoints::RunCheckpoints(Trainer& trainer, RunLength length, LogSink& log)
    : trainer_(trainer), options_(trainer.settled().config.train), length_(length), log_(log) {}

std::string RunCheckpoints::folder(int64_t step) const { return text(options_.output_dir, "/checkpoint-", step); }

bool RunCheckpoints::is_due(int64_t step) const {
  const int64_t every = options_.save_strategy == "epoch"   ? length_.steps_per_epoch
                        : options_.save_strategy == "steps" ? options_.save_steps
                                                            : 0;
  if (every == 0) return false;
  // Behind the last step an export is final/; a state is what a longer run goes on from.
  return step == length_.steps ? !options_.save_only_model : step % every == 0;
}

void RunCheckpoints::after_step(int64_t step, bool stops, const Notes& notes) {
  if (trainer_.is_saving()) trainer_.advance_save();
  note_saved();
  if (stops) return save_state(step, /*beside_steps=*/false, notes);
  if (!is_due(step)) return;
  options_.save_only_model ? save_model(step) : save_state(step, options_.save_async, notes);
}

void RunCheckpoints::finish() {
  trainer_.finish_save();
  note_saved();
}

void RunCheckpoints::note_saved() {
  if (under_way_.empty() || trainer_.is_saving()) return;
  const SaveSeconds seconds = trainer_.save_seconds();
  log_.info(text("saved ", under_way_, number(" in %.3f s", seconds.written),
                 number("; steps waited %.3f s", seconds.waited)));
  under_way_.clear();
}

Rotation RunCheckpoints::rotation(int64_t newest) const {
  return {.output_dir = options_.output_dir, .limit = options_.save_total_limit, .newest = newest, .best = best_};
}

SparedFile RunCheckpoints::spared_files() const {
  return [&trainer = trainer_](const std::string& file) { return !trainer.input_at(file).empty(); };
}

void RunCheckpoints::save_state(int64_t step, bool beside_steps, const Notes& notes) {
  trainer_.finish_save();
  note_saved();
  under_way_ = folder(step);
  const auto saved = [rotation = rotation(step), spares = spared_files()] { remove_older_states(rotation, spares); };
  const auto committing = [metrics = options_.output_dir + "/metrics.jsonl"] { files::sync(metrics); };
  trainer_.save_state(under_way_,
                      {.notes = notes(), .beside_steps = beside_steps, .committing = committing, .saved = saved});
  note_saved();
}

void RunCheckpoints::save_model(int64_t step) {
  trainer_.save(folder(step), quiet_);
  if (trainer_.world().rank() == 0) remove_older_exports(rotation(step), spared_files());
}

}  // namespace fpdist::trainer
