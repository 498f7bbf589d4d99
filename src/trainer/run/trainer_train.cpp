// Trainer::train: the data of a run, its files, one step after another. Nothing here knows more of the trainer than its
// public face.

#include <ATen/ops/full.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/run_length.hpp"
#include "src/core/clock.hpp"
#include "src/core/words.hpp"
#include "src/trainer/run/checkpoints.hpp"
#include "src/trainer/run/evaluation.hpp"
#include "src/trainer/run/output_dir.hpp"
#include "src/trainer/run/resume.hpp"
#include "src/trainer/run/run_files.hpp"
#include "src/trainer/run/run_notes.hpp"
#include "src/trainer/samples/file_data.hpp"
#include "src/trainer/samples/rollout_data.hpp"
#include "src/trainer/watch/progress_watch.hpp"
#include "src/trainer/watch/reporter.hpp"

namespace fpdist::trainer {
namespace {

/// What a run's caller has to do with its steps; any may be empty.
struct RunHooks {
  const std::function<void(const StepMetrics&)>& after_step;
  const std::function<void(const RunProgress&)>& progress;  ///< on rank 0
  const std::function<bool()>& stop;                        ///< on every rank, or on none
};

/// What a run says and writes beside its weights.
class RunRecord {
 public:
  RunRecord(Trainer& trainer, const RunHooks& hooks)
      : trainer_(trainer),
        hooks_(hooks),
        options_(trainer.settled().config.train),
        shown_(loss::spec_of(trainer.settled().config.method, trainer.settled().config.loss).shown),
        is_first_(trainer.world().rank() == 0),
        log_(trainer.log(), text(options_.output_dir, "/logs/rank_", trainer.world().rank(), ".log"), is_first_) {}
  LogSink& log() { return log_; }

  /// Ahead of the first step.
  void begin() {
    if (is_first_) reporters_.emplace(options_, reported_run(), log_);
    trainer_.set_output_dir(options_.output_dir);
    start_ = Clock::now(), first_ = trainer_.steps_done();
    watch_.emplace(first_, options_.max_steps, shown_);
    in_phase("");
  }
  /// What goes on from now on, until the next step has been done.
  void in_phase(const std::string& phase) { show(watch_->in_phase(phase, seconds_since(start_))); }
  void after_step(const StepMetrics& metrics) {
    if (hooks_.after_step) {
      const comm::SlowWork slow(trainer_.world().communicator(), text("in the hook of step ", metrics.step));
      hooks_.after_step(metrics);
    }
    show(watch_->after_step(metrics, seconds_since(start_)));
    if (reporters_) reporters_->report(metrics);
    if (metrics.step != options_.max_steps && metrics.step % options_.logging_steps != 0) return;
    const double a_step = seconds_since(start_) / static_cast<double>(metrics.step - first_);
    say(progress_line(metrics, options_.max_steps, a_step, shown_));
  }
  void after_evaluation(const StepMetrics& metrics) {
    log_.info(evaluation_line(metrics, shown_));
    if (reporters_) reporters_->report(metrics);
  }
  /// Behind the last one.
  void end() {
    if (!reporters_) return;
    const comm::SlowWork slow(trainer_.world().communicator(), "closing the files of metrics");
    reporters_->close();
  }

 private:
  void show(const RunProgress& progress) {
    if (is_first_ && hooks_.progress) hooks_.progress(progress);
  }
  /// A line of progress, which nobody needs beside a drawing of it.
  void say(const std::string& line) {
    if (hooks_.progress)
      log_.to_file(LogLevel::kInfo, line);
    else
      log_.progress(line);
  }
  ReportedRun reported_run() const {
    const config::Settled& job = trainer_.settled();
    return {.method = std::string(name_of(job.config.method)),
            .config_yaml = config::to_yaml(job),
            .steps_done = trainer_.steps_done()};
  }

  Trainer& trainer_;
  const RunHooks& hooks_;
  const TrainOptions& options_;
  loss::Shown shown_;
  bool is_first_;
  RankLog log_;
  std::optional<Reporters> reporters_;  // rank 0
  std::optional<ProgressWatch> watch_;
  Clock::time_point start_;
  int64_t first_ = 0;  // steps of earlier processes
};

void say_what_runs(Trainer& trainer, LogSink& log) {
  const comm::World& world = trainer.world();
  log.info(text("rank ", world.rank(), " of ", world.size(), ", mesh ", to_string(trainer.mesh().shape()), ", ",
                trainer.parameters().size(), " parameters here, ", name_of(trainer.settled().config.model.dtype),
                " on ", trainer.device().description()));
}

/// Collective.
bool is_stopped(const RunHooks& hooks, comm::Communicator& world) {
  if (!hooks.stop) return false;
  at::Tensor stops = at::full({1}, hooks.stop() ? 1 : 0, at::kInt);
  world.all_reduce(stops, comm::ReduceOp::kMax);
  return stops.item<int32_t>() != 0;
}

/// The trainer as `from` says; where the run stands then.
RunNotes begin_at(Trainer& trainer, RunData& data, const ResumePoint& from, LogSink& log) {
  for (const std::string& one : from.passed_over) log.warning("passing over " + one);
  RunNotes notes;
  if (!from.directory.empty()) {
    const bool anyway = trainer.settled().config.train.resume_anyway;
    const auto start = Clock::now();
    notes = parse_run_notes(trainer.load_state(from.directory, log), from.directory);
    refuse_changes(changed_data(notes.data, data.mark()), "data", from.directory, anyway, log);
    data.go_on_from(notes.samples, from.directory + "/state.json");
    log.info(text("going on from ", from.directory, ", after step ", trainer.steps_done(),
                  number(", read in %.3f s", from.seconds + seconds_since(start))));
  }
  notes.data = data.mark();
  return notes;
}

/// Collective, after each step: what its evaluation decides; nothing where there is none.
BestSoFar::Verdict evaluate_if_due(RunEvaluation& evaluation, RunRecord& record, RunNotes& notes, int64_t step,
                                   bool is_last) {
  if (!evaluation.is_due(step, is_last)) return {};
  record.in_phase("evaluating");
  const EvaluationRow row = evaluation.run();
  record.after_evaluation(row.metrics);
  notes.evaluation = to_json(evaluation.best().state());
  return row.verdict;
}

/// Collective, behind the last step: the weights of the best evaluation.
void load_best(Trainer& trainer, const BestSoFar& best, const RunCheckpoints& checkpoints, LogSink& log) {
  const BestEvaluation& state = best.state();
  if (state.step == 0) return;
  if (state.step != trainer.steps_done()) trainer.load_state(checkpoints.folder(state.step), log);
  log.info(
      text("the weights are those of step ", state.step, ", the best evaluation: ", best.metric(), " ", state.metric));
}

RunEnd stop_here(RunRecord& record, const std::string& checkpoint) {
  record.end();
  record.log().info(text("asked to stop: ", checkpoint, " is saved; the same command with ",
                         "--train.resume_from_checkpoint auto goes on from there"));
  return RunEnd::kStopped;
}

void end_run(Trainer& trainer, const RunNotes& notes, LogSink& log) {
  const std::string final = trainer.settled().config.train.output_dir + "/final";
  trainer.save(final, log);
  log.info(text("done: ", static_cast<int64_t>(notes.tokens_computed), " tokens computed for ",
                static_cast<int64_t>(notes.tokens_logical), ": sharing ratio ",
                notes.tokens_logical / notes.tokens_computed, "; weights in ", final));
}

/// Reads the data, or what they are made of.
std::unique_ptr<RunData> read_run_data(Trainer& trainer, std::span<const rewards::NamedReward> rewards, LogSink& log) {
  const comm::SlowWork slow(trainer.world().communicator(), "reading the data");
  if (trainer.settled().config.rollout.prompts.empty()) return read_file_data(trainer, log);
  return make_rollout_data(trainer, rewards, log);
}

RunEnd run(Trainer& trainer, RunData& data, const RunHooks& hooks, const ResumePoint& from) {
  const TrainOptions& options = trainer.settled().config.train;
  const int64_t steps = options.max_steps;
  RunRecord record(trainer, hooks);
  say_what_runs(trainer, record.log());
  record.log().info(text(data.size(), ", ", data.steps_per_epoch(), " steps an epoch"));
  if (trainer.world().rank() == 0) write_skipped_rows(options, data.skipped());
  data.prepare(record.log());
  RunNotes notes = begin_at(trainer, data, from, record.log());
  RunEvaluation evaluation(options, data.evaluation(),
                           parse_best_evaluation(notes.evaluation, from.directory + "/state.json"));
  RunCheckpoints checkpoints(trainer, {.steps = steps, .steps_per_epoch = data.steps_per_epoch()}, record.log());
  const bool keeps_best = options.load_best_model_at_end;
  if (keeps_best) checkpoints.keep(evaluation.best().state().step);
  record.begin();
  if (trainer.steps_done() == 0) evaluate_if_due(evaluation, record, notes, 0, false);
  for (int64_t index = trainer.steps_done(); index < steps && !evaluation.best().is_over(); ++index) {
    const SharedGroups groups = data.step(index, record.log());
    if (index + 1 < steps)
      if (const SharedGroups next = data.ahead(index + 1)) trainer.plan_ahead(next);
    StepMetrics metrics = trainer.step(*groups, record.log());
    metrics.values["epoch"] = static_cast<double>(metrics.step) / static_cast<double>(data.steps_per_epoch());
    data.add_metrics(metrics);
    notes.add(metrics);
    record.after_step(metrics);
    const BestSoFar::Verdict verdict = evaluate_if_due(evaluation, record, notes, metrics.step, index + 1 == steps);
    const bool is_kept = verdict.is_best && keeps_best;  // saved, whatever save_steps says
    if (is_kept) checkpoints.keep(metrics.step);
    const bool is_last = index + 1 == steps || verdict.stop;
    const bool stops = is_stopped(hooks, trainer.world().communicator()) && !is_last;
    if (stops || is_kept || checkpoints.is_due(metrics.step)) record.in_phase(text("saving checkpoint-", metrics.step));
    checkpoints.after_step(metrics.step, stops || is_kept, [&] {
      notes.samples = data.state(metrics.step);
      return to_json(notes);
    });
    if (stops) return stop_here(record, checkpoints.folder(metrics.step));
    if (is_last) break;
  }
  checkpoints.finish();
  record.end();
  if (keeps_best) load_best(trainer, evaluation.best(), checkpoints, record.log());
  record.in_phase("saving final");
  end_run(trainer, notes, record.log());
  return RunEnd::kDone;
}

}  // namespace

RunEnd Trainer::train() {
  const config::Settled& job = settled();
  // What can be wrong with the data is found before anything is written: the next try finds output_dir as it was.
  NullLog quiet;
  LogSink& first = world().rank() == 0 ? log() : quiet;
  const std::unique_ptr<RunData> data = read_run_data(*this, rewards_, first);
  set_max_steps(config::steps_of(job.config.train, data->steps_per_epoch()));
  const InputAt inputs = [&](const std::string& path) { return input_at(path); };
  const auto lock = lock_output_dir(job.config.train, inputs, world().communicator(), first);
  const ResumePoint from = find_resume_point(*this);
  prepare_output_dir(job.config.train, from, config::to_yaml(job), inputs, world().communicator());
  try {
    return run(*this, *data, {hook_, progress_, stop_}, from);
  } catch (const std::exception& error) {
    write_flight_record(job.config.train, world(), {.error = error.what(), .saving = doing()}, log());
    throw;
  }
}

}  // namespace fpdist::trainer
