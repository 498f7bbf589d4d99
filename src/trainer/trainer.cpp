#include "fpdist/trainer/trainer.hpp"

#include <ATen/ATen.h>

#include <chrono>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "src/trainer/run_files.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {

Trainer::Impl::Impl(comm::World& world_, Config config_, LogSink& log_)
    : world(world_),
      config(std::move(config_)),
      log(log_),
      mesh(world, resolve_mesh(config.parallel, world.size())),
      model_config(read_model_config(config.model)),
      costs(plan::cost_table(model_config.shape())),
      policy(load_model(config, model_config, /*trainable=*/true)),
      flat(policy->parameters()),
      reducer(flat, mesh.dp()),
      optimizer(flat.value().slice(0, reducer.shard_begin(), reducer.shard_end()), reducer.shard_begin(),
                flat.decayed_size(), config.optim),
      loss(loss::make_loss(config.method, config.loss)) {
  if (loss::needs_reference(config.method, config.loss)) reference = clone_frozen(config, *policy);
}

void Trainer::Impl::train(const std::string& resolved_config) {
  const std::string& dir = config.train.output_dir;
  const bool first_rank = world.rank() == 0;
  // What can be wrong with the data is found before anything is written: the next try finds output_dir as it was.
  NullLog quiet;
  const auto tokenizer = data::make_byte_tokenizer();
  data::Dataset dataset = data::read_dataset(config.data, config.method, *tokenizer, first_rank ? log : quiet);
  check_vocabulary(dataset, model_config);
  const auto groups_in_data = static_cast<int64_t>(dataset.group.size());
  const data::Loader loader(groups_in_data, config.train.groups_per_step, config.train.seed, config.data.shuffle);

  prepare_output_dir(config.train, resolved_config, world.communicator());
  RankLog rank_log(log, text(dir, "/logs/rank_", world.rank(), ".log"), first_rank);
  rank_log.info(text("rank ", world.rank(), " of ", world.size(), ", mesh ", to_string(mesh.shape()), ", ", flat.size(),
                     " parameters, ", name_of(config.model.dtype)));
  rank_log.info(text(groups_in_data, " groups, ", loader.steps_per_epoch(), " steps an epoch"));
  if (reference && has_reference_logps(dataset)) reference.reset();
  if (reference && config.loss.precompute_ref_log_probs) precompute_reference(dataset.group, rank_log);

  std::optional<MetricsFile> metrics_file;
  if (first_rank) metrics_file.emplace(dir + "/metrics.jsonl");
  const auto start = std::chrono::steady_clock::now();
  double logical = 0, computed = 0;
  for (int64_t step_index = 0; step_index < config.train.max_steps; ++step_index) {
    std::vector<data::Group> groups;
    for (const int64_t id : loader.step(step_index)) groups.push_back(dataset.group[static_cast<size_t>(id)]);
    StepMetrics metrics = step(groups, rank_log);
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
  save(dir + "/final");
  rank_log.info(text("done: ", static_cast<int64_t>(computed), " tokens computed for ", static_cast<int64_t>(logical),
                     ": sharing ratio ", logical / computed, "; weights in ", dir, "/final"));
}

void Trainer::Impl::save(const std::string& directory) {
  if (world.rank() == 0) {
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    for (const auto& parameter : policy->parameters()) tensors.emplace_back(parameter->name, parameter->value.detach());
    checkpoint::export_hf_directory(directory, tensors,
                                    {.config_json = model::export_config_json(model_config, name_of(config.model.dtype),
                                                                              config.method == Method::kReward),
                                     .copy_from = config.model.path});
  }
  world.communicator().barrier();
}

Trainer::Trainer(comm::World& world, Config config, LogSink& log) {
  validate(config);
  impl_ = std::make_unique<Impl>(world, std::move(config), log);
}
Trainer::~Trainer() = default;

void Trainer::set_loss(loss::LossFunction loss) { impl_->loss = std::move(loss); }
void Trainer::set_hook(std::function<void(const StepMetrics&)> hook) { impl_->hook = std::move(hook); }
StepMetrics Trainer::step(std::span<const data::Group> groups) { return impl_->step(groups, impl_->log); }
void Trainer::train(const std::string& resolved_config) { impl_->train(resolved_config); }
void Trainer::save(const std::string& directory) { impl_->save(directory); }
ops::FlatParameters& Trainer::parameters() { return impl_->flat; }

}  // namespace fpdist::trainer
