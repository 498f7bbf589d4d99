#pragma once
// arch: options of adapters, by the names of PEFT's adapter_config.json.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace fpdist {
struct Key;
}
namespace fpdist::arch {

struct AdapterOptions {
  /// none: all weights are trained. lora: the model's own weights stay, low-rank products beside its linears are
  /// trained. prefix_tuning: keys and values of virtual tokens ahead of every sample are. cartridge: the same, begun as
  /// a text, its first tokens as they began. prompt_tuning: their embeddings are. ntk: the two weights of NTK-Attention
  /// in each layer are.
  std::string type = "none";
  /// Directory of an adapter, PEFT's or an earlier run's, to go on from; it says what the other keys do.
  std::string path = {};
  /// Rank of the products, and what scales them: lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora.
  int64_t r = 8;
  double lora_alpha = 8.0;
  bool use_rslora = false;
  /// In training each product misses this part of its input's elements, drawn by (train.seed, step, linear, tokens up
  /// to the row, element): copies of a prefix miss the same ones, shared or not, on any mesh. What is left is scaled by
  /// 1 / (1 - lora_dropout).
  double lora_dropout = 0.0;
  /// The direction of each weight row is trained by the product, its length by a vector of its own.
  bool use_dora = false;
  /// model: what is trained is computed with in model.dtype, from float32 masters; float32: in float32, beside a
  /// bfloat16 model too, as PEFT does.
  std::string lora_dtype = "model";
  /// Names of linears (q_proj), or one pattern that fits whole names (.*layers\.[0-3]\..*_proj), or all-linear; empty:
  /// q_proj and v_proj.
  std::vector<std::string> target_modules = {};
  std::vector<std::string> exclude_modules = {};
  /// Numbers of the layers whose linears are meant; empty: all.
  std::vector<int64_t> layers_to_transform = {};
  /// By the end of a linear's name, as a pattern: its own r and lora_alpha.
  std::map<std::string, std::string> rank_pattern = {}, alpha_pattern = {};
  /// true: A uniform, B 0, so that training begins at the model; gaussian: A normal with deviation 1/r, B 0; false:
  /// both uniform.
  std::string init_lora_weights = "true";
  /// Of a prefix: its tokens, and how it begins: normal with deviation 1, or zero.
  int64_t num_virtual_tokens = 0;
  std::string init_weights = "normal";
  /// What it begins as instead: keys and values that the model has of this text's first num_virtual_tokens tokens.
  std::string init_text = {};
  /// Of a cartridge: so many tokens at its front stay as they began.
  int64_t num_frozen_tokens = 1;
  /// Which prefix a group stands behind. none: there is one, of all. source: one for each of prefix_values, which the
  /// column `source` of its row names. context: one that an MLP makes of the context_dim numbers in the row's column
  /// `context`, of a user, say; what is trained is the MLP.
  std::string prefix_by = "none";
  std::vector<std::string> prefix_values = {};
  /// The one of them for rows that name another, or none; empty: such rows are errors.
  std::string prefix_default = {};
  /// Part of the groups that stand behind no prefix in a step, drawn by (train.seed, step, group).
  double prefix_drop = 0.0;
  /// Numbers of a context.
  int64_t context_dim = 0;
  /// A prefix's keys and values are made of embeddings by an MLP, which is trained in their place, with so many hidden
  /// units; 0: as many as a layer's keys of a token have numbers. Of contexts' MLP 0 is half as many as the embeddings
  /// of the virtual tokens have numbers.
  bool prefix_projection = false;
  int64_t encoder_hidden_size = 0;
  /// How embeddings of virtual tokens begin: RANDOM, normal with deviation 1; SAMPLE_VOCAB, as those of tokens drawn
  /// from the vocabulary; TEXT, as those of prompt_tuning_init_text, cut or repeated.
  std::string prompt_tuning_init = "RANDOM", prompt_tuning_init_text = {};

  bool is_on() const { return type != "none" || !path.empty(); }
  static std::span<const Key> keys();
};

}  // namespace fpdist::arch
