#include "src/trainer/samples/file_data.hpp"

#include <utility>

#include "fpdist/data/loader.hpp"
#include "src/config/check_data.hpp"
#include "src/config/read_data.hpp"
#include "src/config/remarks.hpp"
#include "src/core/words.hpp"
#include "src/trainer/agreement/same_groups.hpp"

namespace fpdist::trainer {
namespace {

constexpr int64_t kMostCompared = 100'000;  ///< groups that are sorted by prefix for the sake of a line

class FileData final : public RunData {
 public:
  FileData(Trainer& trainer, config::JobData data)
      : trainer_(trainer),
        job_(trainer.settled()),
        dataset_(std::move(data.train)),
        loader_(
            data::make_loader(dataset_, job_.config.data, job_.config.train.groups_per_step, job_.config.train.seed)) {
    comm::Communicator& world = trainer.world().communicator();
    const Digest samples = check_same_dataset(dataset_, world), order = check_same_order(loader_, world);
    config::check_packs(dataset_, job_);
    mark_ = {.groups = dataset_.size(),
             .samples = to_string(samples),
             .order = to_string(order),
             .settings = settings_of(job_.config, "data.")};
    if (data.eval) read_evaluated(*data.eval, world);
  }
  void remark(LogSink& log) const { config::remark(job_, dataset_, loader_, log); }

  std::string size() const override { return text(dataset_.size(), " groups"); }
  int64_t steps_per_epoch() const override { return loader_.steps_per_epoch(); }
  const DataMark& mark() const override { return mark_; }
  std::vector<std::string> skipped() const override { return dataset_.skipped; }

  void prepare(LogSink& log) override {
    if (trainer_.world().rank() == 0) log.info(sharing());
    if (!dataset_.source) return trainer_.prepare_reference(dataset_.group, evaluated_, log);
    std::vector<data::Group> first{dataset_.get(0)};  // whether data bring log-probs every group says
    trainer_.prepare_reference(first, evaluated_, log);
  }

  SharedGroups step(int64_t index, LogSink&) override {
    if (coming_ && coming_index_ == index) return std::exchange(coming_, nullptr);
    return std::make_shared<const std::vector<data::Group>>(data::pick_groups(dataset_, loader_.step(index)));
  }
  SharedGroups ahead(int64_t index) override {
    NullLog quiet;
    coming_ = step(index, quiet), coming_index_ = index;
    return coming_;
  }
  void add_metrics(StepMetrics&) const override {}

  Evaluate evaluation() override {
    if (evaluated_.empty()) return {};
    return [this](EvaluationOf of) {
      return trainer_.evaluate(of == EvaluationOf::kAll ? std::span<const data::Group>(evaluated_)
                                                        : std::span<const data::Group>());
    };
  }
  std::string state(int64_t) const override { return "{}"; }
  void go_on_from(const std::string&, const std::string&) override {}

 private:
  /// What a step shares, and would share batched otherwise.
  std::string sharing() const {
    const config::Config& config = job_.config;
    data::DataOptions other = config.data;
    const bool by_prefix = other.batching == data::Batching::kPrefix;
    std::string words = number("a step can share %.2fx", data::step_sharing(dataset_, loader_));
    if (!by_prefix && dataset_.size() > kMostCompared) return words;
    other.batching = by_prefix ? data::Batching::kShuffle : data::Batching::kPrefix;
    const data::Loader others = data::make_loader(dataset_, other, config.train.groups_per_step, config.train.seed);
    return words + text(number(", %.2fx", data::step_sharing(dataset_, others)),
                        " with data.batching: ", by_prefix ? "shuffle" : "prefix");
  }
  void read_evaluated(const data::Dataset& dataset, comm::Communicator& world) {
    config::check_evaluation_packs(dataset, job_);
    for (int64_t id = 0; id < dataset.size(); ++id) evaluated_.push_back(dataset.get(id));
    check_same_groups(
        evaluated_, [&](size_t group) { return dataset.where(group); }, world,
        "the ranks have read different data to evaluate on",
        "copy the same files of data.path and data.eval_path to every node");
  }

  Trainer& trainer_;
  const config::Settled& job_;
  data::Dataset dataset_;
  data::Loader loader_;
  DataMark mark_;
  std::vector<data::Group> evaluated_;
  SharedGroups coming_;  ///< the step that was asked for ahead
  int64_t coming_index_ = -1;
};

}  // namespace

std::unique_ptr<RunData> read_file_data(Trainer& trainer, LogSink& log) {
  const config::Settled& job = trainer.settled();
  const config::Keep keep = job.config.loss.precompute_ref_log_probs ? config::Keep::kInMemory : config::Keep::kMapped;
  auto data = std::make_unique<FileData>(
      trainer, config::read_job_data(job.config, job.model, config::MayWrite::kYes, keep, log));
  if (trainer.world().rank() == 0) data->remark(log);
  return data;
}

}  // namespace fpdist::trainer
