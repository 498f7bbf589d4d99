#include "src/trainer/planned_model.hpp"

#include <algorithm>

#include "fpdist/checkpoint/config_json.hpp"
#include "fpdist/loss/options.hpp"
#include "fpdist/plan/costs_file.hpp"
#include "fpdist/plan/stage_layers.hpp"

namespace fpdist::trainer {
namespace {

int64_t bytes_of(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

}  // namespace

model::ModelConfig read_model_config(const model::ModelOptions& options) {
  if (options.path.empty()) return model::preset_config(options.preset);
  return model::parse_model_config(checkpoint::read_config_json(options.path),
                                   checkpoint::config_json_path(options.path));
}

plan::StageCosts plan_costs(const Config& config, const model::ModelConfig& model) {
  return plan::costs_of_model(model.shape(), config.model.gradient_checkpointing, config.plan.costs);
}

std::vector<int64_t> run_layers(const Config& config, const model::ModelConfig& model) {
  const plan::StageCosts costs = plan::stage_costs(model.shape());
  // Every row is taken to have an edge; a reward model's head is nothing.
  const int64_t head = config.method == Method::kReward ? 0 : costs.per_edge;
  return plan::stage_layers({.layers = model.num_hidden_layers, .layer = costs.per_row, .embedding = 0, .head = head},
                            config.parallel);
}

plan::CpHeads context_heads(const Config& config, const model::ModelConfig& model) {
  const int tp = config.parallel.tp;
  return {.query = std::max<int64_t>(1, model.num_attention_heads / tp),
          .key = std::max<int64_t>(1, model.num_key_value_heads / tp),
          .dim = model.head_dim};
}

plan::CpCosts context_costs(const Config& config, const model::ModelConfig& model) {
  const plan::CpHeads heads = context_heads(config, model);
  const int64_t head_bytes = heads.dim * bytes_of(config.model.dtype);
  return {.key_bytes = 2 * heads.key * head_bytes,
          .head_bytes = 2 * (heads.query + heads.key) * head_bytes,
          .max_ulysses = static_cast<int>(heads.key)};
}

plan::ModelBytes model_bytes(const Config& config, const model::ModelConfig& model) {
  const bool drops_reference = config.method == Method::kDpo && config.loss.precompute_ref_log_probs;
  return {.shape = model.shape(),
          .value = bytes_of(config.model.dtype),
          .sum = std::max<int64_t>(4, bytes_of(config.model.dtype)),
          .recompute = config.model.gradient_checkpointing,
          .has_reference = loss::needs_reference(config.method, config.loss) && !drops_reference,
          .ties_embedding = model.tie_word_embeddings};
}

}  // namespace fpdist::trainer
