#include "fpdist/trainer/trainer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "src/trainer/run_files.hpp"
#include "src/trainer/state.hpp"
#include "src/trainer/step_run.hpp"

namespace fpdist::trainer {

namespace {

/// Rollouts get their advantages; the caller's groups stay as they are.
StepGroups prepared(std::span<const data::Group> groups, const Config& config) {
  if (config.method != Method::kGrpo) return {.all = groups};
  auto filled = std::make_shared<std::vector<data::Group>>(groups.begin(), groups.end());
  StepGroups step{.all = *filled, .owner = filled};
  step.metrics = loss::fill_advantages(*filled, config.loss);
  return step;
}

/// Packs of a step ahead, on their way to the device.
void lay_out(PlannedStep& planned, const Job& job) {
  planned.packs = std::make_shared<Packs>(job, planned.groups.all, planned.plan, planned.shares_prefix);
  planned.uploads = job.device->run_ahead([&] { planned.packs->make_all(); });
}

/// Ranks of one tp axis that hold the same KV heads: all of it apart while there are heads for every rank.
std::unique_ptr<comm::Communicator> split_kv_replicas(const comm::Mesh& mesh, const arch::Model& model) {
  const int rank = mesh.at().tp;
  return mesh.tp().split("kv_replicas", rank / arch::key_value_replicas(model, mesh.shape().tp), rank);
}

std::vector<optim::AdamW> make_optimizers(ops::FlatParameters& flat, const parallel::ZeroReducer& reducer,
                                          const optim::OptimOptions& options) {
  std::vector<optim::AdamW> all;
  for (const parallel::FlatRange& piece : reducer.pieces())
    all.emplace_back(flat.value().narrow(0, piece.begin, piece.size()), piece.begin, flat.decayed_size(), options);
  return all;
}

}  // namespace

Trainer::Impl::Impl(comm::World& world_, Config config_, LogSink& log_, std::unique_ptr<comm::Device> device_)
    : Job(world_, std::move(config_), log_, std::move(device_)),
      planner(*this, {.prepare = [this](auto groups) { return prepared(groups, config); },
                      .lay_out = [this](PlannedStep& planned) { lay_out(planned, *this); }}),
      policy(load_model(config, model, mesh, device->where())),
      ordered(order_parameters(policy, ties_stages(config, model))),
      flat(ordered.all),
      reducer(flat, mesh.dp_cp(), ordered.late),
      optimizer(make_optimizers(flat, reducer, config.optim)),
      loss(loss::make_loss(config.method, config.loss)) {
  kv_replicas = split_kv_replicas(mesh, model);
  if (loss::needs_of(config.method, config.loss).reference) reference = clone_frozen(policy);
  reducer.set_order_of_use(ordered.by_use);
  for (const auto& run : policy) {
    run->set_use_hook([this](std::span<const ops::ParameterPtr> used) { await_weights(used); });
    run->set_hook([this](std::span<const ops::ParameterPtr> complete) {
      if (!is_last_use) return;
      flat.fold_gradients();
      reducer.complete(complete);
    });
  }
}

void Trainer::Impl::train() {
  try {
    train_steps();
  } catch (const std::exception& error) {
    if (writes_files) write_flight_record(config.train, world, error.what(), log);
    throw;
  }
}

void Trainer::Impl::train_steps() {
  const std::string& dir = config.train.output_dir;
  const bool first_rank = world.rank() == 0;
  // What can be wrong with the data is found before anything is written: the next try finds output_dir as it was.
  NullLog quiet;
  const auto tokenizer = data::make_byte_tokenizer();
  data::Dataset dataset = data::read_dataset(config.data, config.method, *tokenizer, first_rank ? log : quiet);
  config::check_vocabulary(dataset, model);
  const auto groups_in_data = static_cast<int64_t>(dataset.group.size());
  const data::Loader loader(groups_in_data, config.train.groups_per_step, config.train.seed, config.data.shuffle);

  prepare_output_dir(config, config::to_yaml(settled), world.communicator());
  writes_files = true;
  RankLog rank_log(log, text(dir, "/logs/rank_", world.rank(), ".log"), first_rank);
  rank_log.info(text("rank ", world.rank(), " of ", world.size(), ", mesh ", to_string(mesh.shape()), ", ", flat.size(),
                     " parameters here, ", name_of(config.model.dtype), " on ", device->description()));
  rank_log.info(text(groups_in_data, " groups, ", loader.steps_per_epoch(), " steps an epoch"));
  if (has_reference_logps(dataset)) reference.clear();
  if (!reference.empty() && config.loss.precompute_ref_log_probs) precompute_reference(dataset.group, rank_log);

  std::optional<MetricsFile> metrics_file;
  if (first_rank) metrics_file.emplace(dir + "/metrics.jsonl");
  planner.set_costs_file(dir + "/costs.yaml");
  const auto start = std::chrono::steady_clock::now();
  double logical = 0, computed = 0;
  const auto groups_of = [&](int64_t step_index) {
    return std::make_shared<const std::vector<data::Group>>(data::pick_groups(dataset, loader.step(step_index)));
  };
  auto next = groups_of(0);
  for (int64_t step_index = 0; step_index < config.train.max_steps; ++step_index) {
    const auto groups = std::move(next);
    if (step_index + 1 < config.train.max_steps) planner.ahead(next = groups_of(step_index + 1));
    StepMetrics metrics = step(*groups, rank_log);
    metrics.values["epoch"] = static_cast<double>(metrics.step) / static_cast<double>(loader.steps_per_epoch());
    logical += metrics.values["tokens_logical"], computed += metrics.values["tokens_computed"];
    if (hook) hook(metrics);
    const bool last = metrics.step == config.train.max_steps;
    if (last || metrics.step % config.train.logging_steps == 0) {
      const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      rank_log.progress(progress_line(metrics, config.train.max_steps, elapsed, config.method));
      if (metrics_file) metrics_file->write(metrics);
    }
    if (!last && config.train.save_steps > 0 && metrics.step % config.train.save_steps == 0)
      save(text(dir, "/checkpoint-", metrics.step));
  }
  if (metrics_file) metrics_file->close();
  save(dir + "/final");
  rank_log.info(text("done: ", static_cast<int64_t>(computed), " tokens computed for ", static_cast<int64_t>(logical),
                     ": sharing ratio ", logical / computed, "; weights in ", dir, "/final"));
}

Trainer::Trainer(comm::World& world, Config config, LogSink& log, std::unique_ptr<comm::Device> device) {
  config::validate(config);
  impl_ = std::make_unique<Impl>(world, std::move(config), log, std::move(device));
}
Trainer::~Trainer() = default;

void Trainer::set_loss(loss::LossFunction loss) { impl_->loss = std::move(loss); }
void Trainer::set_hook(std::function<void(const StepMetrics&)> hook) { impl_->hook = std::move(hook); }
StepMetrics Trainer::step(std::span<const data::Group> groups) { return impl_->step(groups, impl_->log); }
void Trainer::train() { impl_->train(); }
void Trainer::save(const std::string& directory) { impl_->save(directory); }
std::map<std::string, at::Tensor> Trainer::gather_weights() { return impl_->gather_weights(); }
std::map<std::string, at::Tensor> Trainer::gather_gradients() { return impl_->gather_gradients(); }
ops::FlatParameters& Trainer::parameters() {
  impl_->reducer.settle();
  return impl_->flat;
}

}  // namespace fpdist::trainer
