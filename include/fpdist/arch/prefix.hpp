#pragma once
// arch: trained prefixes, virtual tokens ahead of every sample: keys and values of them, a pair a layer, or their
// embeddings. Sources: Li and Liang, "Prefix-tuning: optimizing continuous prompts for generation" (2021); Lester et
// al., "The power of scale for parameter-efficient prompt tuning" (2021); Eyuboglu et al., "Cartridges: lightweight and
// general-purpose long context representations via self-study" (2025); with PEFT's files. Several of them, chosen by
// where a row is from: Saito et al., "Prefix conditioning unifies language and label supervision" (2022). Made of what
// is known of a row's user: Wang et al., "User-aware prefix-tuning is a good learner for personalized image captioning"
// (2023), by the MLP of Mokady et al., "ClipCap: CLIP prefix for image captioning" (2021).

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fpdist::arch {

struct AdapterOptions;
struct Model;

/// Names of its keys and of its values [tokens, kv_heads * head_dim], behind that of the layer.
inline constexpr const char *kPrefixKeys = ".self_attn.prefix_keys", *kPrefixValues = ".self_attn.prefix_values";
/// Names of the embeddings of a prefix that is projected, and of their MLP's first linear; its second has a part for
/// the keys and for the values of each layer, by their names. That of contexts is called so too; where it makes
/// embeddings its second linear is one.
inline constexpr const char *kPrefixEmbedding = "model.prefix_encoder.embedding.weight",
                            *kPrefixHidden = "model.prefix_encoder.transform.0",
                            *kPrefixMade = "model.prefix_encoder.transform.2";
/// Name of its embeddings [tokens, hidden].
inline constexpr const char* kPromptWeight = "model.prompt_embeddings";
/// What PEFT calls these, or all keys and values together: [tokens, layers * 2 * kv_heads * head_dim], layer by layer
/// keys, then values.
inline constexpr const char* kPromptEmbeddings = "prompt_embeddings";

/// The virtual tokens stand at the positions 0 to tokens - 1, and those of samples behind them. Keys are as attention
/// takes them: no norm, no rotary embedding. Embeddings are those of rows that the model computes like any others, once
/// a pack; such rows have the ids behind the vocabulary. Where there are several prefixes, keys stand in such rows as
/// well, in the place of what the model would compute there: trees of different prefixes begin with different tokens
/// and so share nothing. All prefixes lie behind each other in one tensor, [values * tokens, ...].
///
/// Prefixes of contexts are made of a group's context_dim numbers c: tanh(c W0^T + b0) W^T + b, by one linear
/// [tokens * width, hidden] for the embeddings (row t * width + i is number i of token t), or by one for the keys and
/// one for the values of each layer (rows head by head, of each head token by token: so tp cuts them between heads).
/// There are as many in a step as it has different contexts, each computed once for all trees of a pack.
struct Prefix {
  enum class Trains { kKeys, kEmbeddings } trains = Trains::kKeys;
  int64_t tokens = 0;  ///< 0: there is none
  /// Above 0: keys and values are made of embeddings [tokens, kv_heads * head_dim] by an MLP with so many hidden units
  /// (prefix_projection): a layer's are linear in the tanh of the hidden ones. Files have what it makes, not the MLP.
  int64_t hidden = 0;
  int64_t context_dim = 0;    ///< above 0: prefixes are made of so many numbers of each group, by an MLP likewise
  bool is_zero = false;       ///< how it begins: zeros (which is not the model without it), or normal with deviation 1
  bool is_cartridge = false;  ///< keys, which do not decay
  int64_t frozen = 0;         ///< of its tokens, at the front: as they began
  std::vector<std::string> values = {};  ///< of the groups' source, a prefix each; empty: there is one
  double drop = 0;                       ///< part of the groups that stand behind none in a step

  bool is_there() const { return tokens > 0; }
  /// Of all prefixes.
  int64_t all_tokens() const { return tokens * std::max<int64_t>(1, std::ssize(values)); }
  bool has_rows() const { return trains == Trains::kEmbeddings || !values.empty() || context_dim > 0; }
  int64_t key_tokens() const { return has_rows() ? 0 : tokens; }  ///< of keys beside rows
  int64_t row_tokens() const { return has_rows() ? tokens : 0; }  ///< of rows ahead of a sample
};

bool is_of_prefix(std::string_view parameter);

/// Throws ConfigError where the options ask for a prefix of no tokens, or contradict each other.
Prefix prefix_of(const Model& model, const AdapterOptions& options);

/// Names and shapes of the prefix of `model`, in the order of kPromptEmbeddings.
std::vector<std::pair<std::string, std::vector<int64_t>>> prefix_parameters(const Model& model);

/// The columns of kPromptEmbeddings that hold `parameter`, which is_of_prefix: the first one.
int64_t prefix_column(const Model& model, std::string_view parameter);

}  // namespace fpdist::arch
