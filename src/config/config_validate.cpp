// What can be wrong with a configuration before a file is opened or a rank is counted; all of it is said at once.

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>

#include "fpdist/arch/model.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/config/hybrids.hpp"
#include "src/config/keys.hpp"
#include "src/optim/peak_rates.hpp"
#include "src/optim/schedule.hpp"

namespace fpdist::config {
namespace {

class Problems {
 public:
  template <typename... Parts>
  void unless(bool good, const Parts&... parts) {
    if (!good) add(text(parts...));
  }

  void add(const std::string& what) { all_ += (all_.empty() ? "" : "\n") + what; }

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
  std::string all_;
};

// What the keys of a section, or of several, must agree on.

/// Whether the method learns from rewards of completions.
bool has_rewards(const Config& config) { return config.method == Method::kGrpo; }
/// Whether the run makes its own rollouts.
bool is_online(const Config& config) { return !config.rollout.prompts.empty(); }

bool has_reference(const Config& config) {
  try {
    return loss::needs_of(config.method, config.loss).reference;
  } catch (const ConfigError&) {
    return true;  // what is wrong with the loss is said with its keys
  }
}

void check_model(const Config& config, Problems& problems) {
  const model::ModelOptions& options = config.model;
  problems.unless(options.path.empty() != options.preset.empty(),
                  options.path.empty() ? "no model: give model.path (a Hugging Face directory) or model.preset: tiny"
                                       : "both model.path and model.preset are given; keep one");
  if (!options.preset.empty()) problems.ask([&] { (void)arch::preset_config(options.preset); });
  problems.unless(options.ref_path.empty() || has_reference(config), "model.ref_path is ", options.ref_path,
                  ", but method ", name_of(config.method), " compares with no reference here: ",
                  config.method == Method::kGrpo ? "set loss.beta above 0, or leave it out" : "leave it out");
}

/// A loss that compares prompts with other prompts' answers.
void check_mismatched(const Config& config) {
  if (loss::needs_of(config.method, config.loss).step != loss::StepView::kMismatched) return;
  check<ConfigError>(!config.loss.precompute_ref_log_probs, "loss.precompute_ref_log_probs drops the reference, and ",
                     name_of(config.method),
                     " asks it in every step for answers to other prompts: leave it out, or set loss.loss_type: "
                     "apo_zero_unpaired");
  check<ConfigError>(config.train.groups_per_step > 1, "train.groups_per_step is 1, and ", name_of(config.method),
                     " compares each prompt with another row's answer: use 2 or more");
}

void check_loss(const Config& config, Problems& problems) {
  problems.ask([&] { check_mismatched(config); });
}

void check_data(const Config& config, Problems& problems) {
  const data::DataOptions& options = config.data;
  problems.unless(!options.path.empty() || is_online(config), "data.path is empty; give at least one JSONL file",
                  has_rewards(config) ? ", or for grpo that makes its own rollouts rollout.prompts" : "");
  for (const auto& [entry, times] : options.mixture)
    problems.unless(std::find(options.path.begin(), options.path.end(), entry) != options.path.end(),
                    "data.mixture names ", entry, ", which is no entry of data.path: spell it as there");
  problems.unless(!options.train_on_all || config.method == Method::kSft, "data.train_on_all is true and the method ",
                  name_of(config.method), ", which learns answers alone: leave it out, or set method: sft");
}

void check_rollouts(const Config& config, Problems& problems) {
  const generate::RolloutOptions& rollout = config.rollout;
  problems.ask([&] { (void)prefix_lengths(rollout); });
  problems.unless(rollout.num_hybrids == 0 || is_online(config), "rollout.num_hybrids is ", rollout.num_hybrids,
                  " and the run makes no rollouts: give rollout.prompts with demonstrations, or leave it out (rows of "
                  "data.path say prefix_length)");
  if (!is_online(config)) return;
  problems.unless(rollout.num_hybrids < std::max<int64_t>(rollout.num_generations, 1), "rollout.num_hybrids is ",
                  rollout.num_hybrids, " of rollout.num_generations ", rollout.num_generations,
                  ": one completion at least begins by itself; give fewer");
  problems.unless(rollout.num_hybrids == 0 || !config.loss.prefix_advantage.empty(), "rollout.num_hybrids is ",
                  rollout.num_hybrids, " and loss.prefix_advantage is not given, which says what demonstrations are ",
                  "worth: loss.prefix_advantage: dr_grpo");
  problems.unless(rollout.num_hybrids == 0 || rollout.old_logps != "sampled",
                  "rollout.old_logps is sampled, and nobody has sampled the demonstrations of rollout.num_hybrids ",
                  rollout.num_hybrids, ": use auto or recompute");
  problems.unless(has_rewards(config), "rollout.prompts is given and the method ", name_of(config.method),
                  " learns from no rollouts: set method: grpo, or give data.path");
  problems.unless(config.data.path.empty(),
                  "both data.path and rollout.prompts are given: rollouts are data's or made here; keep one");
  problems.unless(config.data.eval_fraction == 0,
                  "data.eval_fraction takes rows of data.path, and prompts are evaluated on those of data.eval_path");
  problems.unless(
      rollout.num_generations >= 2,
      "rollout.num_generations is 1, and a completion is judged against others of its prompt: give 2 or more");
}

void check_generated(const Config& config, Problems& problems) {
  for (const int64_t k : config.eval.pass_at)
    problems.unless(k <= config.eval.num_generations, "eval.pass_at has ", k, " and eval.num_generations is ",
                    config.eval.num_generations, ": pass@k needs k completions or more of each prompt");
}

void check_left_out(const Config& config, Problems& problems) {
  const generate::FlexPrefillOptions& options = config.flex_prefill;
  const bool generates = is_online(config) && !config.data.eval_path.empty();
  problems.unless(!options.is_on() || generates, "flex_prefill.gamma is ", options.gamma,
                  ", and nothing is evaluated by generating: give rollout.prompts and data.eval_path, or ",
                  "leave it out; what is trained sees all keys");
  problems.ask([&] { generate::check_together(options); });
  const double kv_budget = config.eval.kv_budget;
  const std::string& kv_profile = config.eval.kv_profile;
  problems.unless(
      kv_profile.empty() || generates, "eval.kv_profile is ", kv_profile,
      ", and nothing is evaluated by generating: give rollout.prompts and data.eval_path, or leave it out; ",
      "rollouts keep all keys");
  problems.unless(kv_profile.empty() || !options.is_on(), "eval.kv_profile is ", kv_profile, " and flex_prefill.gamma ",
                  options.gamma, ": leave out one of the two");
  problems.unless(kv_budget >= 1 || generates, "eval.kv_budget is ", kv_budget, ", and nothing is evaluated by ",
                  "generating: give rollout.prompts and data.eval_path, or leave it out; rollouts keep all keys");
  problems.unless(kv_budget >= 1 || !options.is_on(), "eval.kv_budget is ", kv_budget, " and flex_prefill.gamma ",
                  options.gamma, ": leave out one of the two");
}

void check_schedule(const Config& config, Problems& problems) {
  problems.ask([&] { (void)optim::RateSchedule(config.optim, std::max<int64_t>(1, config.train.max_steps)); });
  problems.ask([&] { (void)optim::PeakRates(config.optim); });
}

void check_evaluation(const Config& config, Problems& problems) {
  const data::DataOptions& data = config.data;
  const trainer::TrainOptions& train = config.train;
  const bool evaluates = !data.eval_path.empty() || data.eval_fraction > 0;
  problems.unless(data.eval_path.empty() || data.eval_fraction == 0,
                  "both data.eval_path and data.eval_fraction are given; keep one");
  problems.unless(evaluates || train.eval_steps == 0, "train.eval_steps is ", train.eval_steps,
                  ", but there is nothing to evaluate on: give data.eval_path or data.eval_fraction");
  problems.unless(evaluates || !train.eval_on_start,
                  "train.eval_on_start is true, but there is nothing to evaluate on: give data.eval_path or "
                  "data.eval_fraction");
  const auto needs_steps = [&](bool is_asked, std::string_view key) {
    problems.unless(!is_asked || (evaluates && train.eval_steps > 0), key,
                    " needs evaluations on the way: give train.eval_steps, and data.eval_path or data.eval_fraction");
  };
  needs_steps(train.load_best_model_at_end, "train.load_best_model_at_end");
  needs_steps(train.early_stopping_patience > 0, "train.early_stopping_patience");
}

void check_parallel(const Config& config, Problems& problems) {
  const plan::ParallelOptions& options = config.parallel;
  const bool interleaved = options.schedule == plan::Schedule::kInterleaved;
  problems.unless(!interleaved || options.pp != 1, "parallel.schedule is interleaved and parallel.pp is 1",
                  "; interleaving needs 2 stages or more");
  problems.unless(interleaved == (options.virtual_stages > 1), "parallel.schedule is ", name_of(options.schedule),
                  " and parallel.virtual_stages is ", options.virtual_stages,
                  "; interleaved needs 2 or more runs of layers a rank, the other schedules 1");
  problems.unless(options.ulysses < 2 || options.cp == -1 || options.cp % options.ulysses == 0, "parallel.ulysses is ",
                  options.ulysses, ", which does not divide parallel.cp ", options.cp);
}

void check_costs(const Config& config, Problems& problems) {
  problems.unless(config.plan.costs.empty() || config.plan.calibrate_steps < 1, "plan.costs is ", config.plan.costs,
                  " and plan.calibrate_steps is ", config.plan.calibrate_steps,
                  ": give the file to repeat plans, or the steps to measure costs anew");
}

struct Together {
  std::string_view section;  ///< whose keys these follow in what is said
  void (*check)(const Config& config, Problems& problems);
};
constexpr std::array kTogether{Together{"model", check_model},       Together{"data", check_data},
                               Together{"loss", check_loss},         Together{"rollout", check_rollouts},
                               Together{"eval", check_generated},    Together{"flex_prefill", check_left_out},
                               Together{"train", check_evaluation},  Together{"optim", check_schedule},
                               Together{"parallel", check_parallel}, Together{"plan", check_costs}};

}  // namespace

void validate(const Config& config) {
  Config fields = config;  // keys hand out what could be written to
  Problems problems;
  for (auto key = keys().begin(); key != keys().end(); ++key) {
    for (const std::string& complaint : complaints_of(*key->key, key->options(fields)))
      problems.add(key->name + complaint);
    if (std::next(key) != keys().end() && std::next(key)->section == key->section) continue;
    for (const Together& together : kTogether)
      if (together.section == key->section) together.check(config, problems);
  }
  problems.finish();
}

}  // namespace fpdist::config
