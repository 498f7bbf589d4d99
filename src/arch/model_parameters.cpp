// The weights that a model has: the one list that memory estimates count, ranks allocate from and exports write.

#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/arch/model.hpp"

namespace fpdist::arch {
namespace {

constexpr int64_t kTokenClasses = 2;

class ParameterNames {
 public:
  void add(std::string name, std::vector<int64_t> shape) { all_.emplace_back(std::move(name), std::move(shape)); }
  void linear(const std::string& name, int64_t out, int64_t in, bool bias) {
    add(name + ".weight", {out, in});
    if (bias) add(name + ".bias", {out});
  }
  std::vector<NamedShape> take() { return std::move(all_); }

 private:
  std::vector<NamedShape> all_;
};

void add_layer(const std::string& prefix, const Layer& layer, int64_t hidden, ParameterNames& list) {
  const Attention& attention = layer.attention;
  const int64_t q = attention.heads * attention.head_dim, kv = attention.kv_heads * attention.head_dim;
  const std::string self = prefix + "self_attn.", mlp = prefix + "mlp.";
  list.linear(self + "q_proj", q, hidden, attention.qkv_bias);
  list.linear(self + "k_proj", kv, hidden, attention.qkv_bias);
  list.linear(self + "v_proj", kv, hidden, attention.qkv_bias);
  list.linear(self + "o_proj", hidden, q, attention.o_bias);
  if (attention.qk_norm) {
    list.add(self + "q_norm.weight", {attention.head_dim});
    list.add(self + "k_norm.weight", {attention.head_dim});
  }
  list.linear(mlp + "gate_proj", layer.mlp.intermediate, hidden, layer.mlp.bias);
  list.linear(mlp + "up_proj", layer.mlp.intermediate, hidden, layer.mlp.bias);
  list.linear(mlp + "down_proj", hidden, layer.mlp.intermediate, layer.mlp.bias);
  list.add(prefix + "input_layernorm.weight", {hidden});
  list.add(prefix + "post_attention_layernorm.weight", {hidden});
}

}  // namespace

bool is_of_score(std::string_view name) { return name == kScoreWeight || name == kScoreBias; }

std::vector<NamedShape> score_parameters(const Model& model, Head head) {
  if (head == Head::kLanguageModel) return {};
  if (head == Head::kScore) return {{kScoreWeight, {1, model.hidden_size}}};
  return {{kScoreWeight, {kTokenClasses, model.hidden_size}}, {kScoreBias, {kTokenClasses}}};
}

Head head_of(const std::function<bool(const char*)>& has) {
  if (!has(kScoreWeight)) return Head::kLanguageModel;
  return has(kScoreBias) ? Head::kTokenClass : Head::kScore;
}

std::vector<NamedShape> parameters(const Model& model, Head head) {
  const int64_t hidden = model.hidden_size;
  ParameterNames list;
  list.add(kEmbeddingWeight, {model.vocab_size, hidden});
  for (size_t number = 0; number < model.layers.size(); ++number)
    add_layer("model.layers." + std::to_string(number) + ".", model.layers[number], hidden, list);
  list.add("model.norm.weight", {hidden});
  for (auto& [name, shape] : score_parameters(model, head)) list.add(name, shape);
  if (head == Head::kLanguageModel && !model.tie_word_embeddings) list.add(kHeadWeight, {model.vocab_size, hidden});
  return list.take();
}

int64_t element_count(const std::vector<NamedShape>& all) {
  int64_t elements = 0;
  for (const auto& [name, shape] : all)
    elements += std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  return elements;
}

int64_t parameter_count(const Model& model, Head head) { return element_count(parameters(model, head)); }

}  // namespace fpdist::arch
