#include "fpdist/config/settled.hpp"

#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/arch/adapter_json.hpp"
#include "src/arch/config_json.hpp"
#include "src/config/model_size.hpp"
#include "src/config/run_length.hpp"
#include "src/core/index.hpp"
#include "src/optim/peak_rates.hpp"
#include "src/plan/costs/costs_file.hpp"
#include "src/plan/costs/stage_layers.hpp"

namespace fpdist::config {
namespace {

/// The preset, or model.path's config.json; weights are not looked at.
arch::Model read_model(const model::ModelOptions& options) {
  if (options.path.empty()) return arch::preset_config(options.preset);
  return arch::parse_model_config(arch::read_config_json(options.path), arch::config_json_path(options.path));
}

/// Weights of model.ref_path must compute what the model does.
void check_reference(const model::ModelOptions& options, const arch::Model& model) {
  const std::string& path = options.ref_path;
  if (path.empty()) return;
  const arch::Model reference = arch::parse_model_config(arch::read_config_json(path), arch::config_json_path(path));
  const std::string differs = arch::difference(model, reference);
  check<ModelFileError>(differs.empty(), "model.ref_path ", path, " is of another architecture than ",
                        options.path.empty() ? "preset " + options.preset : options.path, ": ", differs,
                        " (the model's first): give the model that it was made from");
}

plan::CpCosts context_costs(const Config& config, const arch::Model& model) {
  const plan::CpHeads heads = context_heads(model, config.parallel.tp);
  const int64_t head_bytes = heads.dim * bytes_of(config.model.dtype);
  return {.key_bytes = 2 * heads.key * head_bytes,
          .head_bytes = 2 * (heads.query + heads.key) * head_bytes,
          .max_ulysses = static_cast<int>(heads.key)};
}

/// Costs of a model whose adapter alone is trained, where it has one. Measured rows cost what they did, products and
/// all; what of a forward weight gradients are is counted.
plan::StageCosts for_adapter(plan::StageCosts costs, const arch::Model& model, bool are_measured) {
  if (!model.adapter.is_there()) return costs;
  const int64_t products = model.adapter.prefix.is_there() ? 0 : arch::trained_count(model, Head::kLanguageModel);
  const plan::StageCosts counted = plan::with_frozen_weights(plan::stage_costs(model.shape()), products);
  if (!are_measured) costs.per_row = counted.per_row, costs.prefix_keys = model.adapter.prefix.key_tokens();
  costs.weight_permille = counted.weight_permille, costs.head_weight_permille = counted.head_weight_permille;
  return costs;
}

/// Layers of each run of the pipeline, see plan::stage_layers: a layer's work on one row against the head's. What the
/// weights are split by is what steps are planned with, so FLOPs decide even where costs were measured.
std::vector<int64_t> run_layers(const Config& config, const arch::Model& model) {
  const plan::StageCosts costs = for_adapter(plan::stage_costs(model.shape()), model, /*are_measured=*/false);
  // Every row is taken to have an edge; a reward model's head is nothing.
  const bool scores = loss::needs_of(config.method, config.loss).head != Head::kLanguageModel;
  const int64_t head = scores ? 0 : costs.per_edge;
  const auto all_passes = [](int64_t forward, int64_t weight) { return plan::part_of(forward, 2000 + weight) / 3; };
  return plan::stage_layers({.layers = model.layer_count(),
                             .layer = all_passes(costs.per_row, costs.weight_permille),
                             .embedding = 0,
                             .head = all_passes(head, costs.head_weight_permille)},
                            config.parallel);
}

/// The adapter that the options ask for, which those that go on from a directory have in full afterwards.
void add_adapter(Config& config, arch::Model& model) {
  if (!config.adapter.path.empty()) config.adapter = arch::continued(config.adapter);
  arch::check_keys_of_type(config.adapter);
  model.adapter = arch::adapter_of(model, loss::needs_of(config.method, config.loss).head, config.adapter);
  if (!config.adapter.path.empty()) model.adapter.json = arch::read_adapter_config(config.adapter.path);
  config.data.sources = config.adapter.prefix_values, config.data.other_source = config.adapter.prefix_default;
  config.data.context_dim = model.adapter.prefix.context_dim;
  check<ConfigError>(config.adapter.prefix_by == "none" || config.rollout.prompts.empty(),
                     "adapter.prefix_by: prompts of rollout.prompts have no ", config.adapter.prefix_by,
                     ", and completions are made behind one prefix: give data.path completions, or leave it out");
  check<ConfigError>(
      config.adapter.path.empty() || model.adapter.prefix.drop == 0 || !config.loss.precompute_ref_log_probs,
      "loss.precompute_ref_log_probs asks the adapter of adapter.path once, and adapter.prefix_drop has "
      "some groups without it in every step: leave one out");
}

/// Patterns of weight names that have learning rates of their own must fit some weight.
void check_learning_rates(const Config& config, const arch::Model& model) {
  std::vector<std::string> names{arch::kHeadWeight};  // of a tied head that the weights may untie
  const Head head = loss::needs_of(config.method, config.loss).head;
  for (const auto& [name, shape] : arch::trained_parameters(model, head)) names.push_back(name);
  optim::PeakRates(config.optim).check_all_fit(names);
}

}  // namespace

void check_trained(const Settled& job) {
  if (!job.model.quantization || job.model.adapter.is_there()) return;
  const bool is_stored = job.model.quantization->is_stored;
  throw ConfigError(text(is_stored ? "model.path " + job.config.model.path + " holds" : "model.load_in_4bit makes",
                         " weights of 4 bits, which are not trained themselves: train an adapter beside them, ",
                         "adapter: { type: lora, target_modules: all-linear }, or ",
                         is_stored ? "use the unquantised model" : "leave model.load_in_4bit out"));
}

Settled settle(Config config, int ranks) {
  Settled job;
  job.model = read_model(config.model);
  check_reference(config.model, job.model);
  static_cast<MeshShape&>(config.parallel) = resolve_mesh(config.parallel, ranks);
  arch::check_tensor_parallel(job.model, config.parallel.tp);
  job.cp_costs = context_costs(config, job.model);
  (void)plan::plan_context({}, config.parallel, job.cp_costs);  // refuses a head split that the model has not
  if (config.model.load_in_4bit && !job.model.quantization)
    job.model.quantization.emplace(arch::Quantization{.nested = config.model.bnb_4bit_use_double_quant});
  arch::check_quantized_cuts(job.model, config.parallel.tp);
  add_adapter(config, job.model);
  config.parallel.layers = run_layers(config, job.model);
  config.loss = loss::resolved(config.method, config.loss);
  if (!config.rollout.prompts.empty()) {
    config.loss.max_completion_length = config.rollout.max_completion_length;
    if (config.train.metric_for_best_model.empty()) config.train.metric_for_best_model = "eval_reward";  // no eval_loss
  }
  check_learning_rates(config, job.model);
  if (config.train.max_steps == 0 && config.train.num_train_epochs == 0) config.train.max_steps = kStepsByDefault;
  config.comm.deterministic = config.model.deterministic;
  job.costs =
      for_adapter(plan::costs_of_model(job.model.shape(), config.model.gradient_checkpointing, config.plan.costs),
                  job.model, /*are_measured=*/!config.plan.costs.empty());
  job.config = std::move(config);
  return job;
}

}  // namespace fpdist::config
