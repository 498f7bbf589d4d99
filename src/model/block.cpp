// Legend: T rows, H hidden, Hq/Hkv query/key heads, D head size, F intermediate.
#include "block.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "fpdist/ops/functional.hpp"

namespace fpdist::model {
namespace {

at::Tensor project(const at::Tensor& x, const Linear& linear) {
  return ops::linear(x, *linear.weight, linear.bias.get());
}

/// Projects to heads, normalises each head where the family does, and turns it by its row's depth.
at::Tensor turned_heads(const at::Tensor& x, const Linear& linear, const ops::ParameterPtr& norm,
                        const ModelConfig& config, const RotaryTable& rotary) {
  at::Tensor heads = project(x, linear).view({x.size(0), -1, config.head_dim});
  if (norm) heads = ops::rms_norm(heads, *norm, config.rms_norm_eps);
  return ops::rotary(heads, rotary.cos, rotary.sin);
}

at::Tensor attention(const at::Tensor& x, const BlockWeights& weights, const ModelConfig& config,
                     const PackContext& context) {
  const at::Tensor q = turned_heads(x, weights.q, weights.q_norm, config, context.rotary);
  const at::Tensor k = turned_heads(x, weights.k, weights.k_norm, config, context.rotary);
  const at::Tensor v = project(x, weights.v).view({x.size(0), -1, config.head_dim});
  const auto& tensors = context.tensors;
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  const at::Tensor mixed =
      std::get<0>(ops::tree_attention(q, k, v, tensors.row, tensors.row, tensors.subtree_end, scale));
  return project(mixed.reshape({x.size(0), config.num_attention_heads * config.head_dim}), weights.o);
}

at::Tensor mlp(const at::Tensor& x, const BlockWeights& weights) {
  return project(ops::swiglu(project(x, weights.gate), project(x, weights.up)), weights.down);
}

}  // namespace

at::Tensor block_forward(const at::Tensor& x, const BlockWeights& weights, const ModelConfig& config,
                         const PackContext& context) {
  const at::Tensor mixed =
      x + attention(ops::rms_norm(x, *weights.input_norm, config.rms_norm_eps), weights, config, context);
  return mixed + mlp(ops::rms_norm(mixed, *weights.post_attention_norm, config.rms_norm_eps), weights);
}

}  // namespace fpdist::model
