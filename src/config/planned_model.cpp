#include "src/config/planned_model.hpp"

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/context_plan.hpp"
#include "fpdist/plan/stage_layers.hpp"
#include "src/arch/config_json.hpp"
#include "src/plan/costs/costs_file.hpp"

namespace fpdist::config {
namespace {

int64_t bytes_of(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

}  // namespace

arch::Model read_model_config(const model::ModelOptions& options) {
  if (options.path.empty()) return arch::preset_config(options.preset);
  return arch::parse_model_config(arch::read_config_json(options.path), arch::config_json_path(options.path));
}

plan::StageCosts plan_costs(const Config& config, const arch::Model& model) {
  return plan::costs_of_model(model.shape(), config.model.gradient_checkpointing, config.plan.costs);
}

std::vector<int64_t> run_layers(const Config& config, const arch::Model& model) {
  const plan::StageCosts costs = plan::stage_costs(model.shape());
  // Every row is taken to have an edge; a reward model's head is nothing.
  const int64_t head = config.method == Method::kReward ? 0 : costs.per_edge;
  return plan::stage_layers({.layers = model.num_hidden_layers, .layer = costs.per_row, .embedding = 0, .head = head},
                            config.parallel);
}

plan::CpHeads context_heads(const Config& config, const arch::Model& model) {
  const int tp = config.parallel.tp;
  return {.query = std::max<int64_t>(1, model.num_attention_heads / tp),
          .key = std::max<int64_t>(1, model.num_key_value_heads / tp),
          .dim = model.head_dim};
}

plan::CpCosts context_costs(const Config& config, const arch::Model& model) {
  const plan::CpHeads heads = context_heads(config, model);
  const int64_t head_bytes = heads.dim * bytes_of(config.model.dtype);
  return {.key_bytes = 2 * heads.key * head_bytes,
          .head_bytes = 2 * (heads.query + heads.key) * head_bytes,
          .max_ulysses = static_cast<int>(heads.key)};
}

plan::ModelBytes model_bytes(const Config& config, const arch::Model& model) {
  const bool drops_reference = config.method == Method::kDpo && config.loss.precompute_ref_log_probs;
  return {.shape = model.shape(),
          .value = bytes_of(config.model.dtype),
          .sum = std::max<int64_t>(4, bytes_of(config.model.dtype)),
          .recompute = config.model.gradient_checkpointing,
          .has_reference = loss::needs_of(config.method, config.loss).reference && !drops_reference,
          .ties_embedding = model.tie_word_embeddings};
}

Config settled(Config config, const arch::Model& model, int ranks) {
  static_cast<MeshShape&>(config.parallel) = resolve_mesh(config.parallel, ranks);
  arch::check_tensor_parallel(model, config.parallel.tp);
  (void)plan::plan_context({}, config.parallel, context_costs(config, model));
  config.parallel.layers = run_layers(config, model);
  return config;
}

void check_vocabulary(const data::Dataset& dataset, const arch::Model& model) {
  check<DataError>(dataset.max_token_id < model.vocab_size, "the data holds token id ", dataset.max_token_id,
                   ", the model's vocabulary has ", model.vocab_size,
                   " tokens: use the tokenizer that the model was made with");
}

}  // namespace fpdist::config
