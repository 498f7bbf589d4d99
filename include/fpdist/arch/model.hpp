#pragma once
// arch: what a config.json says, for the families llama, qwen2 and qwen3. Unknown fields are kept and written back.

#include <cstdint>
#include <string>
#include <string_view>

namespace fpdist::arch {

enum class Family { kLlama, kQwen2, kQwen3 };

/// rope_type default | linear | llama3 (old spelling rope_scaling + rope_theta, new spelling rope_parameters).
struct RopeConfig {
  enum class Type { kDefault, kLinear, kLlama3 } type = Type::kDefault;
  double theta = 10000.0;
  double factor = 1.0, low_freq_factor = 1.0, high_freq_factor = 4.0;
  int64_t original_max_position_embeddings = 8192;
};

/// The numbers of a decoder-only transformer that decide its cost.
struct ModelShape {
  int64_t layers = 1, hidden = 1, intermediate = 1, heads = 1, kv_heads = 1, head_dim = 1, vocab = 1;
};

struct Model {
  Family family = Family::kLlama;
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0;
  int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6, initializer_range = 0.02;
  bool attention_bias = false;  ///< bias on q, k, v and o (Llama, Qwen3); Qwen2 always has one on q, k, v only
  bool mlp_bias = false;        ///< Llama only
  bool tie_word_embeddings = false;
  RopeConfig rope;
  std::string json;  ///< the file's own text ("" for a preset), source of the export's config.json

  bool qkv_bias() const { return attention_bias || family == Family::kQwen2; }
  bool qk_norm() const { return family == Family::kQwen3; }
  ModelShape shape() const;
};

/// Parses config.json's text. Throws ModelFileError naming the field: unknown model_type, missing or senseless sizes,
/// an unsupported rope type, activation or sliding window in use.
Model parse_model_config(std::string_view json, const std::string& where);

/// The presets of ModelOptions::preset; throws ConfigError listing them.
Model preset_config(std::string_view name);

/// config.json for an export: the input's own fields, with architectures, dtype (in the spelling the input used) and,
/// for a reward model, num_labels 1 and the sequence-classification architecture.
std::string export_config_json(const Model& config, std::string_view dtype, bool reward_head);

/// Throws ConfigError, naming parallel.tp and the nearest degrees that work, unless `tp` divides the attention heads
/// and either divides the key/value heads or is a multiple of them.
void check_tensor_parallel(const Model& config, int tp);

/// Tensor-parallel ranks that hold the same key/value head: 1, or tp / heads where tp exceeds the heads. Ranks
/// [i * replicas, (i + 1) * replicas) share one; they sum its gradients (ops::Sharding::Sum::kReplicas).
int key_value_replicas(const Model& config, int tp);

}  // namespace fpdist::arch
