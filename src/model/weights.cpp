#include "src/model/weights.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/parallel/tensor_parallel.hpp"
#include "src/model/whole_parameters.hpp"

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
  return {.begin = std::accumulate(sizes.begin(), sizes.begin() + tp.rank, int64_t{0}),
          .size = sizes[static_cast<size_t>(tp.rank)]};
}

/// Rows of k and v: whole heads, one of them on several ranks where there are fewer heads than ranks.
Run key_value_run(const arch::Model& config, const TensorShard& tp) {
  const int replicas = arch::key_value_replicas(config, tp.size);
  const int64_t own = config.num_key_value_heads * replicas / tp.size * config.head_dim;
  return {.begin = tp.rank / replicas * own,
          .size = own,
          .sum = replicas > 1 ? Sum::kReplicas : Sum::kNobody,
          .counted = tp.rank % replicas == 0};
}

class Allocator {
 public:
  Allocator(at::TensorOptions options, bool trainable, TensorShard tp, std::vector<ops::ParameterPtr>& all)
      : options_(options), trainable_(trainable), tp_(tp), all_(all) {}

  ops::ParameterPtr whole(const std::string& name, const std::vector<int64_t>& shape) {
    ops::Sharding sharding;
    if (tp_.size > 1) sharding = {.dim = -1, .begin = 0, .full_shape = {}, .sum = Sum::kAxis, .counted = tp_.rank == 0};
    return add(name, shape, std::move(sharding));
  }
  ops::ParameterPtr cut(const std::string& name, std::vector<int64_t> shape, int dim, const Run& run) {
    if (tp_.size == 1) return add(name, shape, {});
    ops::Sharding sharding{.dim = dim, .begin = run.begin, .full_shape = shape, .sum = run.sum, .counted = run.counted};
    shape[static_cast<size_t>(dim)] = run.size;
    return add(name, shape, std::move(sharding));
  }
  /// Cut along the outputs, as is the bias.
  Linear column(const std::string& name, int64_t out, int64_t in, bool bias, const Run& run) {
    Linear linear{.weight = cut(name + ".weight", {out, in}, 0, run), .bias = nullptr};
    if (bias) linear.bias = cut(name + ".bias", {out}, 0, run);
    return linear;
  }
  /// Cut along the inputs; the bias belongs to the sum over ranks and stays whole.
  Linear row(const std::string& name, int64_t out, int64_t in, bool bias, const Run& run) {
    Linear linear{.weight = cut(name + ".weight", {out, in}, 1, run), .bias = nullptr};
    if (bias) linear.bias = whole(name + ".bias", {out});
    return linear;
  }

 private:
  ops::ParameterPtr add(const std::string& name, const std::vector<int64_t>& shape, ops::Sharding sharding) {
    auto parameter = std::make_shared<ops::Parameter>();
    parameter->name = name;
    parameter->value = at::empty(shape, options_).set_requires_grad(trainable_);
    if (trainable_)
      parameter->main_grad = at::zeros(shape, options_.dtype(ops::accumulate_dtype(parameter->value.scalar_type())));
    parameter->sharding = std::move(sharding);
    all_.push_back(parameter);
    return parameter;
  }

  at::TensorOptions options_;
  bool trainable_;
  TensorShard tp_;
  std::vector<ops::ParameterPtr>& all_;
};

BlockWeights allocate_block(const arch::Model& config, int64_t layer, const TensorShard& tp, Allocator& allocator) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".", attention = prefix + "self_attn.";
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t q_size = config.num_attention_heads * config.head_dim,
                kv_size = config.num_key_value_heads * config.head_dim;
  const Run q = even_run(q_size, tp), kv = key_value_run(config, tp), mlp = even_run(inner, tp);
  BlockWeights block;
  block.q = allocator.column(attention + "q_proj", q_size, hidden, config.qkv_bias(), q);
  block.k = allocator.column(attention + "k_proj", kv_size, hidden, config.qkv_bias(), kv);
  block.v = allocator.column(attention + "v_proj", kv_size, hidden, config.qkv_bias(), kv);
  block.o = allocator.row(attention + "o_proj", hidden, q_size, config.attention_bias, q);
  if (config.qk_norm()) {
    block.q_norm = allocator.whole(attention + "q_norm.weight", {config.head_dim});
    block.k_norm = allocator.whole(attention + "k_norm.weight", {config.head_dim});
  }
  block.gate = allocator.column(prefix + "mlp.gate_proj", inner, hidden, config.mlp_bias, mlp);
  block.up = allocator.column(prefix + "mlp.up_proj", inner, hidden, config.mlp_bias, mlp);
  block.down = allocator.row(prefix + "mlp.down_proj", hidden, inner, config.mlp_bias, mlp);
  block.input_norm = allocator.whole(prefix + "input_layernorm.weight", {hidden});
  block.post_attention_norm = allocator.whole(prefix + "post_attention_layernorm.weight", {hidden});
  return block;
}

}  // namespace

RunWeights RunWeights::allocate(const arch::Model& config, at::TensorOptions options, Head head, bool trainable,
                                const StageLayers& layers, const TensorShard& tp) {
  arch::check_tensor_parallel(config, tp.size);
  const int64_t count = layers.count < 0 ? config.num_hidden_layers - layers.first : layers.count;
  check(layers.first >= 0 && count >= 0 && layers.first + count <= config.num_hidden_layers, "blocks [", layers.first,
        ", ", layers.first + count, ") are not all of the model's ", config.num_hidden_layers);
  check(tp.rank >= 0 && tp.rank < tp.size, "rank ", tp.rank, " is not one of ", tp.size, " of tp");
  const std::vector<int64_t> table{config.vocab_size, config.hidden_size};
  const Run vocabulary = even_run(config.vocab_size, tp);
  RunWeights weights;
  Allocator allocator(options, trainable, tp, weights.all);
  if (layers.embedding) weights.embedding = allocator.cut(kEmbeddingWeight, table, 0, vocabulary);
  for (int64_t layer = layers.first; layer < layers.first + count; ++layer)
    weights.block.push_back(allocate_block(config, layer, tp, allocator));
  if (!layers.head) return weights;
  weights.norm = allocator.whole("model.norm.weight", {config.hidden_size});
  if (head == Head::kScore) {
    weights.head = allocator.whole(kScoreWeight, {1, config.hidden_size});
  } else if (!config.tie_word_embeddings) {
    weights.head = allocator.cut("lm_head.weight", table, 0, vocabulary);
  } else if (layers.embedding) {
    weights.head = weights.embedding;
  } else {
    weights.head = allocator.cut(kEmbeddingWeight, table, 0, vocabulary);
    weights.head->sharding.counted = false;  // the embedding's stage counts and writes it
  }
  return weights;
}

std::vector<std::pair<std::string, std::vector<int64_t>>> whole_parameters(const arch::Model& config, Head head) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> whole;
  const auto shapes_only = at::TensorOptions(at::kFloat).device(at::kMeta);
  for (const auto& parameter : RunWeights::allocate(config, shapes_only, head, /*trainable=*/false).all)
    whole.emplace_back(parameter->name, parameter->value.sizes().vec());
  return whole;
}

}  // namespace fpdist::model
