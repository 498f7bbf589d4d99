#pragma once
// arch: what a config.json says, as layers with features. Families (llama, qwen2, qwen3) live in src/arch/families and
// nowhere else: whoever computes reads features. Fields that are not understood are kept and written back.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/arch/adapter.hpp"
#include "fpdist/arch/quantization.hpp"
#include "fpdist/core/head.hpp"

namespace fpdist::arch {

/// rope_type default | linear | llama3 (old spelling rope_scaling + rope_theta, new spelling rope_parameters).
struct RopeConfig {
  enum class Type { kDefault, kLinear, kLlama3 } type = Type::kDefault;
  double theta = 10000.0;
  double factor = 1.0, low_freq_factor = 1.0, high_freq_factor = 4.0;
  int64_t original_max_position_embeddings = 8192;
  bool operator==(const RopeConfig&) const = default;
};

struct Attention {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool qkv_bias = false, o_bias = false;
  bool qk_norm = false;  ///< every head of q and of k is normalised, with a weight [head_dim] for each
  RopeConfig rope;
};

/// down(silu(gate(x)) * up(x)).
struct GatedMlp {
  int64_t intermediate = 0;
  bool bias = false;  ///< on all three
};

/// x + attention(norm(x)), then the same with the MLP.
struct Layer {
  Attention attention;
  GatedMlp mlp;
  double norm_eps = 1e-6;  ///< of the layer's norms, those of q and k as well
};

/// The numbers of a decoder-only transformer that decide its cost.
struct ModelShape {
  int64_t layers = 1, hidden = 1, intermediate = 1, heads = 1, kv_heads = 1, head_dim = 1, vocab = 1;
};

struct Model {
  std::string family;  ///< config.json's model_type
  int64_t vocab_size = 0, hidden_size = 0, max_position_embeddings = 2048;
  double norm_eps = 1e-6;  ///< of the final norm
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  std::vector<Layer> layers;                                ///< at least one; alike in every family that there is
  std::optional<Quantization> quantization = std::nullopt;  ///< none: no weight is quantized
  Adapter adapter;   ///< beside the weights, which are trained only where there is none
  std::string json;  ///< the file's own text ("" for a preset), source of the export's config.json

  /// Tokens of the longest sample that it is made for: max_position_embeddings, stretched by a linear rope scaling,
  /// without those that a prefix takes.
  int64_t positions() const;
  int64_t layer_count() const { return static_cast<int64_t>(layers.size()); }
  /// Sizes of its first layer stand for all.
  ModelShape shape() const;
};

/// Parses config.json's text. Throws ModelFileError naming the field: unknown model_type, missing or senseless sizes,
/// an unsupported rope type, activation or sliding window in use.
Model parse_model_config(std::string_view json, const std::string& where);

/// A model of a family (its model_type) in these sizes, everything else as the family has it where config.json says
/// nothing. Throws ModelFileError as parse_model_config does.
Model model_of_shape(std::string_view family, const ModelShape& shape);

/// The presets of ModelOptions::preset; throws ConfigError listing them.
Model preset_config(std::string_view name);

/// What a config.json says of an export.
struct ExportConfig {
  std::string_view dtype;
  Head head = Head::kLanguageModel;
  std::optional<int64_t> pad_token_id = std::nullopt;  ///< none: the input's
};

/// config.json for an export: the input's own fields, with architectures, dtype (in the spelling the input used),
/// tie_word_embeddings where the model's is another and, for a reward model, num_labels 1 and the
/// sequence-classification architecture, for a process reward model 2 and that of token classification.
std::string export_config_json(const Model& model, const ExportConfig& as);

/// The config.json's pad_token_id; none where it has none or one outside the vocabulary.
std::optional<int64_t> pad_token_id(const Model& model);

/// Why weights of `other` do not compute what `model` does with others: config.json's names of the fields that differ,
/// with both values. "" where they do. Ties of the embedding may differ.
std::string difference(const Model& model, const Model& other);

/// Names of a reward model's score head [1,H], and of a process reward model's [2,H] with its bias [2]; a base model's
/// directory lacks them.
inline constexpr const char* kScoreWeight = "score.weight";
inline constexpr const char* kScoreBias = "score.bias";
/// Whether it is one of the two.
bool is_of_score(std::string_view name);
/// Name of the embedding, and of its copy where it serves as the head on another stage.
inline constexpr const char* kEmbeddingWeight = "model.embed_tokens.weight";
/// Name of the language model's head where it is not the embedding.
inline constexpr const char* kHeadWeight = "lm_head.weight";

/// Those two where the head has them.
std::vector<NamedShape> score_parameters(const Model& model, Head head);
/// The head of weights of which `has` says by a name whether they are there.
Head head_of(const std::function<bool(const char*)>& has);

/// Every weight of the whole model but its adapter's, in Hugging Face order: embedding, layers, norm, head (absent when
/// tied).
std::vector<NamedShape> parameters(const Model& model, Head head);

int64_t element_count(const std::vector<NamedShape>& all);
/// Elements of all weights together.
int64_t parameter_count(const Model& model, Head head);

/// Throws ConfigError, naming parallel.tp and the nearest degrees that work, unless `tp` divides the attention heads
/// and either divides the key/value heads or is a multiple of them.
void check_tensor_parallel(const Model& model, int tp);

/// Tensor-parallel ranks that hold the same key/value head: 1, or tp / heads where tp exceeds the heads. Ranks
/// [i * replicas, (i + 1) * replicas) share one; they sum its gradients (ops::Sharding::Sum::kReplicas).
int key_value_replicas(const Model& model, int tp);

}  // namespace fpdist::arch
