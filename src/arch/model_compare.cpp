// Two models, field by field.

#include <string>
#include <string_view>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::arch {
namespace {

class Differences {
 public:
  template <typename T>
  void field(std::string_view name, const T& a, const T& b) {
    if (!(a == b)) all_ += text(all_.empty() ? "" : ", ", name, " ", a, " against ", b);
  }
  std::string take() { return std::move(all_); }

 private:
  std::string all_;
};

void compare(const RopeConfig& a, const RopeConfig& b, Differences& all) {
  all.field("rope_theta", a.theta, b.theta);
  all.field("rope_type", static_cast<int>(a.type), static_cast<int>(b.type));
  all.field("rope factor", a.factor, b.factor);
  all.field("low_freq_factor", a.low_freq_factor, b.low_freq_factor);
  all.field("high_freq_factor", a.high_freq_factor, b.high_freq_factor);
  if (a.type == RopeConfig::Type::kLlama3 && b.type == a.type)
    all.field("original_max_position_embeddings", a.original_max_position_embeddings,
              b.original_max_position_embeddings);
}

/// Sizes are the whole model's to compare.
void compare(const Layer& a, const Layer& b, Differences& all) {
  compare(a.attention.rope, b.attention.rope, all);
  all.field("attention_bias of q, k, v", a.attention.qkv_bias, b.attention.qkv_bias);
  all.field("attention_bias of o", a.attention.o_bias, b.attention.o_bias);
  all.field("norms of q and k", a.attention.qk_norm, b.attention.qk_norm);
  all.field("mlp_bias", a.mlp.bias, b.mlp.bias);
}

}  // namespace

std::string difference(const Model& model, const Model& other) {
  const ModelShape a = model.shape(), b = other.shape();
  Differences all;
  all.field("num_hidden_layers", a.layers, b.layers);
  all.field("hidden_size", a.hidden, b.hidden);
  all.field("intermediate_size", a.intermediate, b.intermediate);
  all.field("num_attention_heads", a.heads, b.heads);
  all.field("num_key_value_heads", a.kv_heads, b.kv_heads);
  all.field("head_dim", a.head_dim, b.head_dim);
  all.field("vocab_size", a.vocab, b.vocab);
  all.field("rms_norm_eps", model.norm_eps, other.norm_eps);
  compare(model.layers.front(), other.layers.front(), all);  // layers are alike in every family
  return all.take();
}

}  // namespace fpdist::arch
