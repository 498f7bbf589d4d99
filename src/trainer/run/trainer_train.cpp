// Trainer::train: the data of a run, its files, one step after another. Nothing here knows more of the trainer than its
// public face.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/check_data.hpp"
#include "src/config/read_data.hpp"
#include "src/core/clock.hpp"
#include "src/core/words.hpp"
#include "src/trainer/agreement/same_groups.hpp"
#include "src/trainer/run/run_files.hpp"
#include "src/trainer/watch/reporter.hpp"

namespace fpdist::trainer {
namespace {

using Hook = std::function<void(const StepMetrics&)>;

/// The groups of a run and which of them are in a step. They stay in the token cache, where there is one, unless the
/// reference's log-probs of all of them are computed first.
class RunData {
 public:
  /// Collective. Throws DataError where the ranks have read different data, ConfigError where they do not fit.
  RunData(const config::Settled& job, comm::Communicator& world, LogSink& log)
      : dataset_(config::read_data(
            job.config, job.model, config::MayWrite::kYes,
            job.config.loss.precompute_ref_log_probs ? config::Keep::kInMemory : config::Keep::kMapped, log)),
        loader_(data::make_loader(dataset_, job.config.data, job.config.train.groups_per_step, job.config.train.seed)) {
    check_same_dataset(dataset_, world);
    check_same_order(loader_, world);
    config::check_packs(dataset_, job);
  }
  int64_t size() const { return dataset_.size(); }
  const std::vector<std::string>& skipped() const { return dataset_.skipped; }
  /// What a step shares, and would share batched otherwise.
  std::string sharing(const config::Config& config) const {
    data::DataOptions other = config.data;
    const bool by_prefix = other.batching == data::Batching::kPrefix;
    std::string words = number("a step can share %.2fx", data::step_sharing(dataset_, loader_));
    if (!by_prefix && dataset_.size() > kMostCompared) return words;
    other.batching = by_prefix ? data::Batching::kShuffle : data::Batching::kPrefix;
    const data::Loader others = data::make_loader(dataset_, other, config.train.groups_per_step, config.train.seed);
    return words + text(number(", %.2fx", data::step_sharing(dataset_, others)),
                        " with data.batching: ", by_prefix ? "shuffle" : "prefix");
  }
  int64_t steps_per_epoch() const { return loader_.steps_per_epoch(); }
  std::shared_ptr<const std::vector<data::Group>> step(int64_t index) const {
    return std::make_shared<const std::vector<data::Group>>(data::pick_groups(dataset_, loader_.step(index)));
  }
  void prepare_reference(Trainer& trainer, LogSink& log) {
    if (!dataset_.source) return trainer.prepare_reference(dataset_.group, log);
    std::vector<data::Group> first{dataset_.get(0)};  // whether data bring log-probs every group says
    trainer.prepare_reference(first, log);
  }

 private:
  static constexpr int64_t kMostCompared = 100'000;  ///< groups that are sorted by prefix for the sake of a line
  data::Dataset dataset_;
  data::Loader loader_;
};

/// What a run says and writes beside its weights, and when it writes those.
class RunRecord {
 public:
  RunRecord(Trainer& trainer, const Hook& hook)
      : trainer_(trainer),
        hook_(hook),
        options_(trainer.settled().config.train),
        shown_(loss::spec_of(trainer.settled().config.method, trainer.settled().config.loss).shown),
        is_first_(trainer.world().rank() == 0),
        log_(trainer.log(), text(options_.output_dir, "/logs/rank_", trainer.world().rank(), ".log"), is_first_) {}
  LogSink& log() { return log_; }

  /// Ahead of the first step.
  void begin() {
    if (is_first_) reporters_.emplace(options_, reported_run(), log_);
    trainer_.set_output_dir(options_.output_dir);
    start_ = Clock::now();
  }
  void after_step(const StepMetrics& metrics) {
    logical_ += metrics.values.at("tokens_logical"), computed_ += metrics.values.at("tokens_computed");
    if (hook_) {
      const comm::SlowWork slow(trainer_.world().communicator(), text("in the hook of step ", metrics.step));
      hook_(metrics);
    }
    const bool is_last = metrics.step == options_.max_steps;
    if (is_last || metrics.step % options_.logging_steps == 0) {
      log_.progress(progress_line(metrics, options_.max_steps, seconds_since(start_), shown_));
      if (reporters_) reporters_->report(metrics);
    }
    if (!is_last && options_.save_steps > 0 && metrics.step % options_.save_steps == 0)
      trainer_.save(text(options_.output_dir, "/checkpoint-", metrics.step), quiet_);
  }
  void end() {
    if (reporters_) {
      const comm::SlowWork slow(trainer_.world().communicator(), "closing the files of metrics");
      reporters_->close();
    }
    trainer_.save(options_.output_dir + "/final", log_);
    log_.info(text("done: ", static_cast<int64_t>(computed_), " tokens computed for ", static_cast<int64_t>(logical_),
                   ": sharing ratio ", logical_ / computed_, "; weights in ", options_.output_dir, "/final"));
  }

 private:
  ReportedRun reported_run() const {
    const config::Settled& job = trainer_.settled();
    return {.method = std::string(name_of(job.config.method)), .config_yaml = config::to_yaml(job)};
  }

  Trainer& trainer_;
  const Hook& hook_;
  const TrainOptions& options_;
  loss::Shown shown_;
  bool is_first_;
  RankLog log_;
  NullLog quiet_;                       // what there is to say of exports is said of the last
  std::optional<Reporters> reporters_;  // rank 0
  Clock::time_point start_;
  double logical_ = 0, computed_ = 0;  // tokens
};

void say_what_runs(Trainer& trainer, LogSink& log) {
  const comm::World& world = trainer.world();
  log.info(text("rank ", world.rank(), " of ", world.size(), ", mesh ", to_string(trainer.mesh().shape()), ", ",
                trainer.parameters().size(), " parameters here, ", name_of(trainer.settled().config.model.dtype),
                " on ", trainer.device().description()));
}

void run(Trainer& trainer, RunData& data, const Hook& hook) {
  const int64_t steps = trainer.settled().config.train.max_steps;
  RunRecord record(trainer, hook);
  say_what_runs(trainer, record.log());
  record.log().info(text(data.size(), " groups, ", data.steps_per_epoch(), " steps an epoch"));
  if (trainer.world().rank() == 0) {
    record.log().info(data.sharing(trainer.settled().config));
    write_skipped_rows(trainer.settled().config.train, data.skipped());
  }
  data.prepare_reference(trainer, record.log());
  record.begin();
  auto next = data.step(0);
  for (int64_t index = 0; index < steps; ++index) {
    const auto groups = std::move(next);
    if (index + 1 < steps) trainer.plan_ahead(next = data.step(index + 1));
    StepMetrics metrics = trainer.step(*groups, record.log());
    metrics.values["epoch"] = static_cast<double>(metrics.step) / static_cast<double>(data.steps_per_epoch());
    record.after_step(metrics);
  }
  record.end();
}

}  // namespace

void Trainer::train() {
  const config::Settled& job = settled();
  // What can be wrong with the data is found before anything is written: the next try finds output_dir as it was.
  NullLog quiet;
  RunData data = [&] {
    const comm::SlowWork slow(world().communicator(), "reading the data");
    return RunData(job, world().communicator(), world().rank() == 0 ? log() : quiet);
  }();
  prepare_output_dir(
      job.config.train, config::to_yaml(job), [&](const std::string& path) { return input_at(path); },
      world().communicator());
  try {
    run(*this, data, hook_);
  } catch (const std::exception& error) {
    write_flight_record(job.config.train, world(), error.what(), log());
    throw;
  }
}

}  // namespace fpdist::trainer
