// Legend: n rows of the cp rank, n_t of the tp rank's run, H hidden, Hq/Hkv query/key heads here, D head size, F
// intermediate.
#include "src/model/blocks/block.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>

#include "fpdist/ops/functional.hpp"
#include "src/core/mix.hpp"
#include "src/model/layerwise_keys.hpp"
#include "src/model/sparse_rows.hpp"
#include "src/ops/batch_invariant.hpp"
#include "src/parallel/context/context_attention.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::model {
namespace {

/// Lengths of the rows of W + scale B A, of which other ranks of tp hold parts where W is cut along its inputs.
at::Tensor row_norms(const Linear& linear, const ops::LowRankPair& pair, comm::Communicator* tp) {
  if (linear.weight->sharding.dim != 1) return ops::row_squares(linear.squares, *linear.weight, pair).sqrt_();
  at::Tensor added = ops::row_squares(at::zeros_like(linear.squares), *linear.weight, pair);
  tp->all_reduce(added);
  return added.add_(linear.squares).sqrt_();
}

/// Of the linear's rows, where it is cut along its inputs of the columns that are here.
ops::RowDropout dropout_of(const Linear& linear, const PackContext& context) {
  if (!context.masks || linear.dropout == 0) return {};
  const ops::Sharding& cut = linear.weight->sharding;
  return {.key = context.rows.key,
          .stream = static_cast<int64_t>(mixed(*context.masks ^ linear.stream)),
          .p = linear.dropout,
          .first_column = cut.dim == 1 ? cut.begin : 0};
}

at::Tensor project(const at::Tensor& x, const Linear& linear, const PackContext& context, const ops::Parameter* bias,
                   const at::Tensor& residual = {}) {
  if (context.kept && context.kept->batch_invariant) return ops::invariant_linear(x, *linear.weight, bias, residual);
  if (!linear.a) return ops::linear(x, *linear.weight, bias, residual);
  const ops::LowRankPair pair{*linear.a, *linear.b, linear.scale};
  const ops::RowDropout dropout = dropout_of(linear, context);
  if (!linear.magnitude) return ops::adapted_linear(x, *linear.weight, pair, bias, residual, dropout);
  // What the magnitudes scale is the product of what was not dropped, W's as well; what was dropped passes W alone.
  const at::Tensor seen = ops::dropped(x, dropout);
  const at::Tensor rest = dropout.p == 0 ? residual : ops::linear(x - seen, *linear.weight, nullptr, residual);
  const at::Tensor product = ops::adapted_linear(seen, *linear.weight, pair);
  return ops::scaled_columns(product, *linear.magnitude, row_norms(linear, pair, context.tp), bias, rest);
}

at::Tensor project(const at::Tensor& x, const Linear& linear, const PackContext& context) {
  return project(x, linear, context, linear.bias.get());
}

/// residual [n_t,H] + the linear over a slice of the columns, summed over tp into the own rows. The bias is whole on
/// every rank and joins the sum once.
at::Tensor add_projected(const at::Tensor& residual, const at::Tensor& x, const Linear& linear,
                         const PackContext& context) {
  if (context.tp == nullptr || context.tp->size() == 1) return project(x, linear, context, linear.bias.get(), residual);
  // Several ranks sum products over all rows, the residual is of the own rows: after the sum it is there exactly once.
  const ops::Parameter* bias = context.tp->rank() == 0 ? linear.bias.get() : nullptr;
  const at::Tensor partial = project(x, linear, context, bias);
  return residual + parallel::scatter_sum_rows(partial, *context.tp, context.rows.shard_rows);
}

at::Tensor heads_of(const at::Tensor& x, const Linear& linear, int64_t head_dim, const PackContext& context) {
  const at::Tensor y = project(x, linear, context);
  return y.view({y.size(0), y.size(1) / head_dim, head_dim});
}

/// Projects to heads, normalises each head where the layer does, and turns it by its row's depth.
at::Tensor turned_heads(const at::Tensor& x, const Linear& linear, const ops::ParameterPtr& norm,
                        const arch::Layer& layer, const PackContext& context, const RotaryTable& rotary) {
  at::Tensor heads = heads_of(x, linear, layer.attention.head_dim, context);
  if (norm) heads = ops::rms_norm(heads, *norm, layer.norm_eps);
  return ops::rotary(heads, rotary.cos, rotary.sin);
}

/// Over keys that are all here.
at::Tensor local_attention(const ops::AttentionInputs& in, const parallel::RowsHere& rows,
                           const ops::AttentionOptions& options, const ops::AttentionTermPtr& term) {
  return term ? ops::attention_with_term(in, rows.mask, options, rows.calls, term)
              : ops::tree_attention(in, rows.mask, options, rows.calls).out;
}

/// Over keys that were kept, those of these rows among them from here on.
at::Tensor kept_attention(const ops::AttentionInputs& own, const PackContext& context,
                          const ops::AttentionOptions& options, const ops::AttentionTermPtr& term, size_t index) {
  KeptKeys& kept = *context.kept;
  at::Tensor &keys = kept.keys[index], &values = kept.values[index];
  const at::Tensor& row = kept.layerwise ? kept.layerwise->layer[index].row : kept.row;
  keys.index_copy_(0, row, own.k);
  values.index_copy_(0, row, own.v);
  const ops::AttentionInputs in{own.q, keys, values};
  if (kept.layerwise) return layerwise_attention(in, options, *kept.layerwise, index);
  if (kept.sparse) return sparse_attention(in, options, *kept.sparse);
  if (kept.batch_invariant) return ops::invariant_attention(in, context.rows.mask, options);
  return local_attention(in, context.rows, options, term);
}

/// Keys or values of a prefix that is projected: [P, Hkv D].
at::Tensor made_by(const Linear& linear, const PackContext& context) {
  return ops::linear(context.prefix_hidden, *linear.weight, linear.bias.get());
}

/// The same of C prefixes of contexts, where a linear gives head by head the tokens of a prefix: [C P, Hkv D], each
/// prefix's tokens behind each other. Of a prefix that is projected there is one token a row.
at::Tensor rows_made_by(const Linear& linear, int64_t heads, int64_t head_dim, const PackContext& context) {
  const at::Tensor made = made_by(linear, context);
  return made.view({made.size(0), heads, -1, head_dim}).transpose(1, 2).reshape({-1, heads * head_dim});
}

/// Keys or values [n,Hkv,D] of rows with a prefix's own in the rows that stand for it.
at::Tensor with_prefix(const at::Tensor& computed, const ops::ParameterPtr& own, const Linear& make,
                       const PackContext& context) {
  if (!context.prefix_place.defined()) return computed;
  const at::Tensor place = context.prefix_place.clamp_min(0);
  const at::Tensor rows = own ? ops::embedding(place, *own)
                              : rows_made_by(make, computed.size(1), computed.size(2), context).index_select(0, place);
  return at::where(context.prefix_place.ge(0).view({-1, 1, 1}), rows.to(computed.scalar_type()).view_as(computed),
                   computed);
}

/// What its queries see besides; null: nothing.
ops::AttentionTermPtr term_of(const BlockWeights& weights, const PackContext& context) {
  if (weights.ntk_values) return ops::ntk_term(weights.ntk_values, weights.ntk_keys);
  if (!context.prefix) return nullptr;
  if (context.prefix_hidden.defined())
    return ops::prefix_term(made_by(weights.make_keys, context), made_by(weights.make_values, context), context.prefix);
  return ops::prefix_term(weights.prefix_keys, weights.prefix_values, context.prefix);
}

/// Before the output projection: [n, Hq D].
at::Tensor attention(const at::Tensor& normed, const BlockWeights& weights, const arch::Layer& layer,
                     const PackContext& context, size_t index) {
  const int64_t head_dim = layer.attention.head_dim;
  parallel::ResidentKeys* resident = context.keys == nullptr ? nullptr : &(*context.keys)[index];
  const at::Tensor x = context.gathered(normed);
  const at::Tensor q = turned_heads(x, weights.q, weights.q_norm, layer, context, context.rotary[index]);
  const at::Tensor k = with_prefix(turned_heads(x, weights.k, weights.k_norm, layer, context, context.rotary[index]),
                                   weights.prefix_keys, weights.make_keys, context);
  const at::Tensor v =
      with_prefix(heads_of(x, weights.v, head_dim, context), weights.prefix_values, weights.make_values, context);
  const parallel::RowsHere& rows = context.rows;
  const ops::AttentionOptions options{.scale = 1.0 / std::sqrt(static_cast<double>(head_dim)),
                                      .deterministic = rows.deterministic};
  const ops::AttentionTermPtr term = term_of(weights, context);
  if (context.kept)
    return kept_attention({q, k, v}, context, options, term, index).reshape({x.size(0), q.size(1) * q.size(2)});
  const at::Tensor mixed = rows.exchange
                               ? parallel::context_attention({q, k, v}, rows.exchange, options, resident, term)
                               : local_attention({q, k, v}, rows, options, term);
  return mixed.reshape({x.size(0), q.size(1) * q.size(2)});
}

/// The MLP before its down projection: [n, F].
at::Tensor gated(const at::Tensor& normed, const BlockWeights& weights, const PackContext& context) {
  const at::Tensor x = context.gathered(normed);
  return ops::swiglu(project(x, weights.gate, context), project(x, weights.up, context));
}

}  // namespace

at::Tensor PackContext::gathered(const at::Tensor& own) const {
  return tp == nullptr ? own : parallel::gather_rows(own, *tp, rows.shard_rows);
}

at::Tensor PackContext::own(const at::Tensor& all) const {
  if (tp == nullptr) return all;
  const auto before = rows.shard_rows.begin() + tp->rank();
  return all.narrow(0, std::accumulate(rows.shard_rows.begin(), before, int64_t{0}), *before);
}

at::Tensor block_forward(const at::Tensor& x, const BlockWeights& weights, const arch::Layer& layer,
                         const PackContext& context, size_t index) {
  const auto norm = [&](const at::Tensor& rows, const ops::ParameterPtr& weight) {
    return ops::rms_norm(rows, *weight, layer.norm_eps);
  };
  // Nested, so that what attention leaves is gone before the MLP.
  const at::Tensor mixed =
      add_projected(x, attention(norm(x, weights.input_norm), weights, layer, context, index), weights.o, context);
  return add_projected(mixed, gated(norm(mixed, weights.post_attention_norm), weights, context), weights.down, context);
}

}  // namespace fpdist::model
