#include "src/model/weights.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/quantized_weight.hpp"
#include "src/core/index.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::model {
namespace {

using Sum = ops::Sharding::Sum;

/// A run of a dim, and whether other ranks hold the same one.
struct Run {
  int64_t begin, size;
  Sum sum = Sum::kNobody;
  bool counted = true;
};

Run even_run(int64_t total, const TensorShard& tp) {
  const auto sizes = parallel::split_evenly(total, tp.size);
  return {.begin = std::accumulate(sizes.begin(), sizes.begin() + tp.rank, int64_t{0}), .size = sizes[index(tp.rank)]};
}

/// Rows of k and v: whole heads, one of them on several ranks where there are fewer heads than ranks.
Run key_value_run(const arch::Attention& attention, int replicas, const TensorShard& tp) {
  const int64_t own = attention.kv_heads * replicas / tp.size * attention.head_dim;
  return {.begin = tp.rank / replicas * own,
          .size = own,
          .sum = replicas > 1 ? Sum::kReplicas : Sum::kNobody,
          .counted = tp.rank % replicas == 0};
}

/// Allocates by name: what the model's list of parameters lacks stays null. `run`: the own part of the cut dim; none:
/// as even as it goes.
class Allocator {
 public:
  Allocator(const arch::Model& model, Head head, at::TensorOptions options, bool trainable, TensorShard tp,
            std::vector<ops::ParameterPtr>& all)
      : model_(model), options_(options), tp_(tp), all_(all) {
    for (auto& [name, shape] : arch::parameters(model, head)) shape_.emplace(std::move(name), std::move(shape));
    for (auto& [name, shape] : arch::trained_parameters(model, head)) {
      if (trainable) trained_.insert(name);
      shape_.emplace(std::move(name), std::move(shape));
    }
  }

  ops::ParameterPtr whole(const std::string& name) {
    ops::Sharding sharding;
    if (tp_.size > 1) sharding = {.dim = -1, .begin = 0, .full_shape = {}, .sum = Sum::kAxis, .counted = tp_.rank == 0};
    const auto found = shape_.find(name);
    return found == shape_.end() ? nullptr : add(name, found->second, std::move(sharding));
  }
  ops::ParameterPtr cut(const std::string& name, int dim, const std::optional<Run>& run = std::nullopt) {
    const auto found = shape_.find(name);
    if (found == shape_.end()) return nullptr;
    std::vector<int64_t> shape = found->second;
    if (tp_.size == 1) return add(name, shape, {});
    int64_t& size = shape[index(dim)];
    const Run own = run ? *run : even_run(size, tp_);
    ops::Sharding sharding{.dim = dim, .begin = own.begin, .full_shape = shape, .sum = own.sum, .counted = own.counted};
    size = own.size;
    return add(name, shape, std::move(sharding));
  }
  /// Cut along the outputs, as is the bias.
  Linear column(const std::string& name, const std::optional<Run>& run = std::nullopt) {
    Linear linear = adapted(name);
    linear.weight = cut(name + ".weight", 0, run), linear.bias = cut(name + ".bias", 0, run);
    linear.a = whole(name + arch::kLowRankA), linear.b = cut(name + arch::kLowRankB, 0, run);
    linear.magnitude = cut(name + arch::kMagnitude, 0, run);
    return linear;
  }
  /// Cut along the inputs; the bias belongs to the sum over ranks and stays whole, as does B.
  Linear row(const std::string& name) {
    Linear linear = adapted(name);
    linear.weight = cut(name + ".weight", 1), linear.bias = whole(name + ".bias");
    linear.a = cut(name + arch::kLowRankA, 1), linear.b = whole(name + arch::kLowRankB);
    linear.magnitude = whole(name + arch::kMagnitude);
    return linear;
  }

 private:
  /// What the model's adapter says of the linear; its weights are still to come.
  Linear adapted(const std::string& module) const {
    const arch::LowRank* pair = model_.adapter.of(module);
    Linear linear;
    if (pair != nullptr)
      linear.scale = pair->scale, linear.dropout = model_.adapter.dropout, linear.stream = stream_of(module);
    return linear;
  }
  ops::ParameterPtr add(const std::string& name, const std::vector<int64_t>& shape, ops::Sharding sharding) {
    auto parameter = std::make_shared<ops::Parameter>();
    parameter->name = name;
    const bool trained = trained_.contains(name);
    const at::ScalarType dtype = c10::typeMetaToScalarType(options_.dtype());
    const bool is_wide = trained && model_.adapter.is_float32;
    if (arch::is_quantized(model_, name))
      parameter->quantized = std::make_shared<const ops::QuantizedWeight>(
          ops::QuantizedWeight{.matrix = {.sizes = shape}, .dtype = dtype, .device = options_.device()});
    else
      parameter->value = at::empty(shape, is_wide ? options_.dtype(ops::accumulate_dtype(dtype)) : options_)
                             .set_requires_grad(trained);
    if (trained)
      parameter->main_grad = at::zeros(shape, options_.dtype(ops::accumulate_dtype(parameter->value.scalar_type())));
    parameter->sharding = std::move(sharding);
    parameter->is_magnitude = name.ends_with(arch::kMagnitude);
    parameter->keeps_size = model_.adapter.prefix.is_cartridge && arch::is_of_prefix(name);
    all_.push_back(parameter);
    return parameter;
  }

  const arch::Model& model_;
  at::TensorOptions options_;
  TensorShard tp_;
  std::vector<ops::ParameterPtr>& all_;
  std::unordered_map<std::string, std::vector<int64_t>> shape_;  ///< of every parameter of the model
  std::unordered_set<std::string> trained_;
};

/// Rows of a linear that makes keys or values of so many tokens, head by head.
Run times(Run heads, int64_t tokens) {
  heads.begin *= tokens, heads.size *= tokens;
  return heads;
}

BlockWeights allocate_block(int64_t layer, const Run& key_value, int64_t made_tokens, Allocator& allocator) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".", attention = prefix + "self_attn.";
  BlockWeights block;
  block.q = allocator.column(attention + "q_proj");
  block.k = allocator.column(attention + "k_proj", key_value);
  block.v = allocator.column(attention + "v_proj", key_value);
  block.o = allocator.row(attention + "o_proj");
  block.q_norm = allocator.whole(attention + "q_norm.weight");
  block.k_norm = allocator.whole(attention + "k_norm.weight");
  const std::string own = prefix.substr(0, prefix.size() - 1);  // without the dot
  block.prefix_keys = allocator.cut(own + arch::kPrefixKeys, 1, key_value);
  block.prefix_values = allocator.cut(own + arch::kPrefixValues, 1, key_value);
  block.ntk_values = allocator.cut(own + arch::kNtkValues, 0);
  block.ntk_keys = allocator.cut(own + arch::kNtkKeys, 0);
  const auto projection = [&](const std::string& name) {
    Linear linear;
    linear.weight = allocator.cut(name + ".weight", 0, times(key_value, made_tokens));
    linear.bias = allocator.cut(name + ".bias", 0, times(key_value, made_tokens));
    return linear;
  };
  block.make_keys = projection(own + arch::kPrefixKeys);
  block.make_values = projection(own + arch::kPrefixValues);
  block.gate = allocator.column(prefix + "mlp.gate_proj");
  block.up = allocator.column(prefix + "mlp.up_proj");
  block.down = allocator.row(prefix + "mlp.down_proj");
  block.input_norm = allocator.whole(prefix + "input_layernorm.weight");
  block.post_attention_norm = allocator.whole(prefix + "post_attention_layernorm.weight");
  return block;
}

/// Every field of the weights that names a parameter.
std::vector<ops::ParameterPtr*> fields_of(RunWeights& weights) {
  std::vector<ops::ParameterPtr*> all{&weights.embedding,
                                      &weights.prompt,
                                      &weights.prefix_embedding,
                                      &weights.prefix_hidden.weight,
                                      &weights.prefix_hidden.bias,
                                      &weights.prefix_made.weight,
                                      &weights.prefix_made.bias,
                                      &weights.norm,
                                      &weights.head,
                                      &weights.head_bias};
  for (BlockWeights& block : weights.block)
    for (ops::ParameterPtr* field : parameters_of(block)) all.push_back(field);
  for (ops::ParameterPtr& parameter : weights.all) all.push_back(&parameter);
  return all;
}

}  // namespace

std::array<Linear*, 7> linears_of(BlockWeights& block) {
  return {&block.q, &block.k, &block.v, &block.o, &block.gate, &block.up, &block.down};
}

at::Tensor squares_of(const Linear& linear) {
  const at::Tensor weight = ops::frozen_value(*linear.weight);
  return weight.to(ops::accumulate_dtype(weight.scalar_type())).square().sum(1);
}

std::vector<ops::ParameterPtr*> parameters_of(BlockWeights& block) {
  std::vector<ops::ParameterPtr*> all;
  const auto add = [&](Linear& linear) {
    for (ops::ParameterPtr* field : {&linear.weight, &linear.bias, &linear.a, &linear.b, &linear.magnitude})
      all.push_back(field);
  };
  for (Linear* linear : {&block.q, &block.k, &block.v, &block.o}) add(*linear);
  for (ops::ParameterPtr* field :
       {&block.q_norm, &block.k_norm, &block.prefix_keys, &block.prefix_values, &block.make_keys.weight,
        &block.make_keys.bias, &block.make_values.weight, &block.make_values.bias, &block.ntk_values, &block.ntk_keys})
    all.push_back(field);
  for (Linear* linear : {&block.gate, &block.up, &block.down}) add(*linear);
  all.push_back(&block.input_norm), all.push_back(&block.post_attention_norm);
  return all;
}

RunWeights RunWeights::frozen(const RunWeights& weights, bool keeps_adapter) {
  const at::NoGradGuard copying;
  std::unordered_map<const ops::Parameter*, ops::ParameterPtr> instead;
  for (const ops::ParameterPtr& parameter : weights.all) {
    if (!parameter->main_grad.defined()) {
      instead[parameter.get()] = parameter;
    } else if (keeps_adapter || !arch::is_of_adapter(parameter->name)) {
      auto copy = std::make_shared<ops::Parameter>();
      copy->name = parameter->name, copy->sharding = parameter->sharding;
      copy->is_magnitude = parameter->is_magnitude, copy->keeps_size = parameter->keeps_size;
      copy->value = parameter->value.detach().clone();
      instead[parameter.get()] = std::move(copy);
    }
  }
  RunWeights other = weights;
  for (ops::ParameterPtr* field : fields_of(other))
    if (*field) *field = instead[field->get()];
  std::erase(other.all, nullptr);
  return other;
}

RunWeights RunWeights::allocate(const arch::Model& model, at::TensorOptions options, Head head, bool trainable,
                                const StageLayers& layers, const TensorShard& tp) {
  arch::check_tensor_parallel(model, tp.size);
  const int64_t count = layers.count < 0 ? model.layer_count() - layers.first : layers.count;
  check(layers.first >= 0 && count >= 0 && layers.first + count <= model.layer_count(), "blocks [", layers.first, ", ",
        layers.first + count, ") are not all of the model's ", model.layer_count());
  check(tp.rank >= 0 && tp.rank < tp.size, "rank ", tp.rank, " is not one of ", tp.size, " of tp");
  const int replicas = arch::key_value_replicas(model, tp.size);
  RunWeights weights;
  Allocator allocator(model, head, options, trainable, tp, weights.all);
  const auto whole_linear = [&](const std::string& name) {
    Linear linear;
    linear.weight = allocator.whole(name + ".weight"), linear.bias = allocator.whole(name + ".bias");
    return linear;
  };
  if (layers.embedding) weights.embedding = allocator.cut(kEmbeddingWeight, 0);
  if (layers.embedding || model.adapter.prefix.trains == arch::Prefix::Trains::kKeys) {  // keys are made in every run
    weights.prefix_embedding = allocator.whole(arch::kPrefixEmbedding);
    weights.prefix_hidden = whole_linear(arch::kPrefixHidden);
    for (const auto& copy : {weights.prefix_embedding, weights.prefix_hidden.weight, weights.prefix_hidden.bias})
      if (copy && !layers.embedding) copy->sharding.counted = false;  // the embedding's stage counts and writes it
  }
  if (layers.embedding) {
    weights.prefix_made = whole_linear(arch::kPrefixMade);
    weights.prompt = allocator.whole(arch::kPromptWeight);
  }
  for (int64_t layer = layers.first; layer < layers.first + count; ++layer) {
    const arch::Attention& attention = model.layers[index(layer)].attention;
    const int64_t made_tokens = model.adapter.prefix.context_dim > 0 ? model.adapter.prefix.tokens : 1;
    weights.block.push_back(allocate_block(layer, key_value_run(attention, replicas, tp), made_tokens, allocator));
  }
  if (!layers.head) return weights;
  weights.norm = allocator.whole("model.norm.weight");
  if (head != Head::kLanguageModel) {
    weights.head = allocator.whole(kScoreWeight), weights.head_bias = allocator.whole(arch::kScoreBias);
  } else if (!model.tie_word_embeddings) {
    weights.head = allocator.cut("lm_head.weight", 0);
  } else if (layers.embedding) {
    weights.head = weights.embedding;
  } else {
    weights.head = allocator.cut(kEmbeddingWeight, 0);
    weights.head->sharding.counted = false;  // the embedding's stage counts and writes it
  }
  return weights;
}

}  // namespace fpdist::model
