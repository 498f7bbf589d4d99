#pragma once
// The weights of a model: Hugging Face names and shapes, which slice of them a rank holds, and what seeded weights are.

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/model/stage_layers.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::model {

/// A projection; `bias` is null where the model has none, `a` and `b` where no adapter stands beside it.
struct Linear {
  ops::ParameterPtr weight, bias;
  ops::ParameterPtr a, b;       ///< arch::LowRank's
  ops::ParameterPtr magnitude;  ///< null without DoRA
  double scale = 0;
  double dropout = 0;   ///< of the pair's input, in training
  uint64_t stream = 0;  ///< a number for the linear's name, which tells its masks apart
  at::Tensor squares;   ///< [out] of the frozen weight's whole rows, beside a magnitude
};

struct BlockWeights {
  Linear q, k, v, o, gate, up, down;
  Linear make_keys, make_values;                 ///< of a prefix that is projected or of contexts: from hidden units
  ops::ParameterPtr q_norm, k_norm;              ///< [D], null without qk_norm
  ops::ParameterPtr prefix_keys, prefix_values;  ///< [P, Hkv D], null without a trained prefix
  ops::ParameterPtr ntk_values, ntk_keys;        ///< [Hq D, D], [Hq, D], null without NTK-Attention
  ops::ParameterPtr input_norm, post_attention_norm;
};

/// A stage's weights, or this rank's slices of them (Parameter::sharding; uncut when tp is 1):
/// - q, k, v, gate, up and their biases along dim 0, o and down along dim 1: q by heads, k and v by key/value heads
///   (one head each, replicated, where there are fewer than ranks), the MLP as evenly as it goes;
/// - embedding and lm_head along dim 0, as evenly as it goes;
/// - norms, the score head and the biases of o and down whole on every rank, counted on rank 0, their gradients summed
///   over the axis: each rank has seen its own rows only. The bias of o (down) is added once, after the sum over ranks;
/// - NTK-Attention's weights by heads, as q;
/// - a trained prefix by key/value heads, as k and v, what all layers have of its MLP whole, as norms; embeddings of
/// virtual tokens whole, as norms;
/// - an adapter's B as the rows of its linear's weight, its A as the columns; what is whole on every rank (A beside q,
/// k,
///   v, gate and up, B beside o and down) has its gradient summed over the axis.
/// Beside an adapter only it and the score head are trained: all other parameters have no main grad.
struct RunWeights {
  ops::ParameterPtr embedding;  ///< null where another stage has it
  /// Of a prefix that is projected: embeddings [P, Hkv D] and the first linear of their MLP; null without. Prefixes of
  /// contexts have no embeddings, and where these are what is made, the second linear [P H, hidden].
  ops::ParameterPtr prefix_embedding;
  Linear prefix_hidden, prefix_made;
  ops::ParameterPtr prompt;  ///< embeddings [P,H] of virtual tokens; null without, and where another stage embeds
  ops::ParameterPtr norm;    ///< null where another stage has the head
  /// lm_head [V,H] or score [1,H]. Tied: the embedding itself, or in another stage than the embedding's a copy by the
  /// embedding's name that is not counted. Null where another stage has the head.
  ops::ParameterPtr head;
  ops::ParameterPtr head_bias;         ///< [2] of a head of classes, whose score is [2,H]; null otherwise
  std::vector<BlockWeights> block;     ///< of the stage
  std::vector<ops::ParameterPtr> all;  ///< each once, in Hugging Face order

  /// The names and shapes of arch::parameters and of the model's adapter, uninitialised; with zeroed main grads when
  /// `trainable`. Throws ConfigError as check_tensor_parallel does, ShapeError for layers that the model has not.
  static RunWeights allocate(const arch::Model& model, at::TensorOptions options, Head head, bool trainable,
                             const StageLayers& layers = {}, const TensorShard& tp = {});

  /// The same weights, none of them trained: the frozen ones are `weights`' own, of trained ones it has copies. Without
  /// `keeps_adapter` the adapter is left out.
  static RunWeights frozen(const RunWeights& weights, bool keeps_adapter);
};

/// The linears of a block, in Hugging Face order.
std::array<Linear*, 7> linears_of(BlockWeights& block);
/// [out] sums of squares along the rows of what is here of a linear's weight, in the accumulation dtype.
at::Tensor squares_of(const Linear& linear);

/// The parameters of a block, in Hugging Face order, each field once; null where the model has none.
std::vector<ops::ParameterPtr*> parameters_of(BlockWeights& block);

/// A number for a name, the same on every machine: a parameter's stream of random numbers.
uint64_t stream_of(std::string_view name);

/// A quantized parameter's part of the weight that initialize() would give it.
void initialize_quantized(ops::Parameter& parameter, double std, uint64_t seed, bool nested);

/// Matrices normal(0, std), norms 1, biases 0. A draw depends on (seed, name, element of the whole weight) alone and is
/// made in double: any slice holds what the whole would.
void initialize(ops::Parameter& parameter, double std, uint64_t seed);

/// An adapter's A or B, or a prefix, drawn in the same way.
void initialize_adapter(ops::Parameter& parameter, const arch::Adapter& adapter, uint64_t seed);

}  // namespace fpdist::model
