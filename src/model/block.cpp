// Legend: n rows of the cp rank, n_t of the tp rank's run, H hidden, Hq/Hkv query/key heads here, D head size, F
// intermediate.
#include "block.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "fpdist/ops/functional.hpp"
#include "fpdist/parallel/context_attention.hpp"
#include "fpdist/parallel/tensor_parallel.hpp"

namespace fpdist::model {
namespace {

at::Tensor project(const at::Tensor& x, const Linear& linear) {
  return ops::linear(x, *linear.weight, linear.bias.get());
}

/// Linear over a slice of the columns, summed over tp into the own rows. The bias is whole on every rank and joins the
/// sum once.
at::Tensor project_back(const at::Tensor& x, const Linear& linear, const PackContext& context) {
  const bool adds_bias = context.tp == nullptr || context.tp->rank() == 0;
  return context.scattered(ops::linear(x, *linear.weight, adds_bias ? linear.bias.get() : nullptr));
}

at::Tensor heads_of(const at::Tensor& x, const Linear& linear, int64_t head_dim) {
  return project(x, linear).view({x.size(0), linear.weight->value.size(0) / head_dim, head_dim});
}

/// Projects to heads, normalises each head where the family does, and turns it by its row's depth.
at::Tensor turned_heads(const at::Tensor& x, const Linear& linear, const ops::ParameterPtr& norm,
                        const ModelConfig& config, const RotaryTable& rotary) {
  at::Tensor heads = heads_of(x, linear, config.head_dim);
  if (norm) heads = ops::rms_norm(heads, *norm, config.rms_norm_eps);
  return ops::rotary(heads, rotary.cos, rotary.sin);
}

at::Tensor attention(const at::Tensor& normed, const BlockWeights& weights, const ModelConfig& config,
                     const PackContext& context, parallel::ResidentKeys* resident) {
  const at::Tensor x = context.gathered(normed);
  const at::Tensor q = turned_heads(x, weights.q, weights.q_norm, config, context.rotary);
  const at::Tensor k = turned_heads(x, weights.k, weights.k_norm, config, context.rotary);
  const at::Tensor v = heads_of(x, weights.v, config.head_dim);
  const auto& tensors = context.tensors;
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  const at::Tensor mixed = tensors.exchange
                               ? parallel::context_attention(q, k, v, tensors.exchange, scale, resident)
                               : std::get<0>(ops::tree_attention(q, k, v, tensors.row, tensors.row, tensors.subtree_end,
                                                                 scale, tensors.attention));
  return project_back(mixed.reshape({x.size(0), q.size(1) * q.size(2)}), weights.o, context);
}

at::Tensor mlp(const at::Tensor& normed, const BlockWeights& weights, const PackContext& context) {
  const at::Tensor x = context.gathered(normed);
  return project_back(ops::swiglu(project(x, weights.gate), project(x, weights.up)), weights.down, context);
}

}  // namespace

at::Tensor PackContext::gathered(const at::Tensor& own) const {
  return tp == nullptr ? own : parallel::gather_rows(own, *tp, tensors.shard_rows);
}

at::Tensor PackContext::scattered(const at::Tensor& partial) const {
  return tp == nullptr ? partial : parallel::scatter_sum_rows(partial, *tp, tensors.shard_rows);
}

at::Tensor block_forward(const at::Tensor& x, const BlockWeights& weights, const ModelConfig& config,
                         const PackContext& context, size_t index) {
  parallel::ResidentKeys* resident = context.keys == nullptr ? nullptr : &(*context.keys)[index];
  const at::Tensor mixed =
      x + attention(ops::rms_norm(x, *weights.input_norm, config.rms_norm_eps), weights, config, context, resident);
  return mixed + mlp(ops::rms_norm(mixed, *weights.post_attention_norm, config.rms_norm_eps), weights, context);
}

}  // namespace fpdist::model
