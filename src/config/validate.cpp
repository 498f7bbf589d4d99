// What can be wrong with a configuration before a file is opened or a rank is counted; all of it is said at once.

#include <cmath>
#include <string>

#include "fpdist/arch/model.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/optim/schedule.hpp"

namespace fpdist::config {
namespace {

class Problems {
 public:
  template <typename... Parts>
  void unless(bool good, const Parts&... parts) {
    if (!good) add(text(parts...));
  }

  template <typename Value>
  void range(std::string_view key, Value value, bool good, std::string_view valid) {
    unless(good, key, " is ", value, "; it must be ", valid);
  }

  /// Rooms check their own words; `room` throws ConfigError.
  template <typename Room>
  void ask(const Room& room) {
    try {
      room();
    } catch (const ConfigError& error) {
      add(error.what());
    }
  }

  void finish() const {
    if (!all_.empty()) throw ConfigError(all_);
  }

 private:
  void add(const std::string& what) { all_ += (all_.empty() ? "" : "\n") + what; }
  std::string all_;
};

bool at_least(double value, double least) { return std::isfinite(value) && value >= least; }

void check_model(const model::ModelOptions& options, Problems& problems) {
  problems.unless(options.path.empty() != options.preset.empty(),
                  options.path.empty() ? "no model: give model.path (a Hugging Face directory) or model.preset: tiny"
                                       : "both model.path and model.preset are given; keep one");
  if (!options.preset.empty()) problems.ask([&] { (void)arch::preset_config(options.preset); });
  problems.unless(options.device == "auto" || options.device == "cpu" || options.device == "cuda", "model.device is '",
                  options.device, "'; use auto, cpu or cuda");
}

void check_data(const data::DataOptions& options, Problems& problems) {
  problems.unless(!options.path.empty(), "data.path is empty; give at least one JSONL file");
  for (const std::string& path : options.path)
    problems.unless(!path.empty(), "data.path holds an empty name; give the path of a JSONL file");
  problems.range("data.max_length", options.max_length, options.max_length >= 2, "2 or more");
}

void check_train(const trainer::TrainOptions& options, Problems& problems) {
  problems.range("train.groups_per_step", options.groups_per_step, options.groups_per_step >= 1, "1 or more");
  problems.range("train.max_steps", options.max_steps, options.max_steps >= 1, "1 or more");
  problems.unless(!options.output_dir.empty(), "train.output_dir is empty; give the folder to write to");
  problems.range("train.logging_steps", options.logging_steps, options.logging_steps >= 1, "1 or more");
  problems.range("train.save_steps", options.save_steps, options.save_steps >= 0, "0 or more");
  problems.range("train.profile_steps", options.profile_steps, options.profile_steps >= 0, "0 or more");
  problems.range("train.peak_tflops", options.peak_tflops, at_least(options.peak_tflops, 0), "0 or more");
  // The upper end keeps the deadline inside the clock's range.
  const int64_t timeout = options.comm_timeout_seconds;
  problems.range("train.comm_timeout_seconds", timeout, timeout >= 1 && timeout <= 100'000'000,
                 "1 or more, at most 100000000");
}

void check_optim(const optim::OptimOptions& options, int64_t max_steps, Problems& problems) {
  const auto is_decay = [](double beta) { return beta >= 0 && beta < 1; };
  problems.range("optim.learning_rate", options.learning_rate, at_least(options.learning_rate, 0), "0 or more");
  problems.range("optim.adam_beta1", options.adam_beta1, is_decay(options.adam_beta1), "at least 0 and below 1");
  problems.range("optim.adam_beta2", options.adam_beta2, is_decay(options.adam_beta2), "at least 0 and below 1");
  problems.range("optim.adam_epsilon", options.adam_epsilon,
                 at_least(options.adam_epsilon, 0) && options.adam_epsilon > 0, "above 0");
  problems.range("optim.weight_decay", options.weight_decay, at_least(options.weight_decay, 0), "0 or more");
  problems.range("optim.max_grad_norm", options.max_grad_norm, at_least(options.max_grad_norm, 0), "0 or more");
  problems.range("optim.warmup_steps", options.warmup_steps, options.warmup_steps >= 0, "0 or more");
  if (max_steps >= 1 && options.warmup_steps >= 0)
    problems.ask([&] { (void)optim::learning_rate(options, 0, max_steps); });
}

void check_parallel(const plan::ParallelOptions& options, Problems& problems) {
  for (const auto& [axis, degree] :
       {std::pair{"dp", options.dp}, {"pp", options.pp}, {"cp", options.cp}, {"tp", options.tp}})
    problems.range(text("parallel.", axis), degree, degree == -1 || degree >= 1,
                   "1 or more, or -1 for the rest of the ranks");
  const bool interleaved = options.schedule == plan::Schedule::kInterleaved;
  problems.unless(options.virtual_stages >= 1, "parallel.virtual_stages is ", options.virtual_stages,
                  "; it must be 1 or more");
  problems.unless(!interleaved || options.pp != 1, "parallel.schedule is interleaved and parallel.pp is 1",
                  "; interleaving needs 2 stages or more");
  problems.unless(interleaved == (options.virtual_stages > 1), "parallel.schedule is ", name_of(options.schedule),
                  " and parallel.virtual_stages is ", options.virtual_stages,
                  "; interleaved needs 2 or more runs of layers a rank, the other schedules 1");
  problems.range("parallel.cp_chunk", options.cp_chunk, options.cp_chunk >= 1, "1 or more");
  problems.range("parallel.ulysses", options.ulysses, options.ulysses >= 0, "0 (the planner chooses) or more");
  problems.unless(options.ulysses < 2 || options.cp == -1 || options.cp % options.ulysses == 0, "parallel.ulysses is ",
                  options.ulysses, ", which does not divide parallel.cp ", options.cp);
}

}  // namespace

void validate(const Config& config) {
  Problems problems;
  check_model(config.model, problems);
  check_data(config.data, problems);
  problems.ask([&] { (void)loss::resolved(config.method, config.loss); });
  check_train(config.train, problems);
  check_optim(config.optim, config.train.max_steps, problems);
  check_parallel(config.parallel, problems);
  problems.range("pack.max_tokens", config.pack.max_tokens, config.pack.max_tokens >= 1, "1 or more");
  problems.range("pack.max_in_flight", config.pack.max_in_flight, config.pack.max_in_flight >= 0,
                 "0 (what whole packs need) or more");
  problems.range("pack.slices", config.pack.slices, config.pack.slices >= 0, "0 (the planner chooses) or more");
  problems.range("pack.verify_steps", config.pack.verify_steps, config.pack.verify_steps >= 0, "0 or more");
  problems.unless(config.comm.transport == "nccl" || config.comm.transport == "staged", "comm.transport is '",
                  config.comm.transport, "'; use nccl or staged");
  problems.range("comm.nccl_max_ctas", config.comm.nccl_max_ctas, config.comm.nccl_max_ctas >= 0,
                 "0 (NCCL's choice) or more");
  problems.range("plan.calibrate_steps", config.plan.calibrate_steps, config.plan.calibrate_steps >= 0, "0 or more");
  problems.unless(config.plan.costs.empty() || config.plan.calibrate_steps < 1, "plan.costs is ", config.plan.costs,
                  " and plan.calibrate_steps is ", config.plan.calibrate_steps,
                  ": give the file to repeat plans, or the steps to measure costs anew");
  problems.finish();
}

}  // namespace fpdist::config
