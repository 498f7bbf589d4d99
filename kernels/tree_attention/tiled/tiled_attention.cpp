#include "kernels/tree_attention/tiled/tiled_attention.hpp"

#include "kernels/common/dispatch.hpp"

namespace fpdist::kernels {
namespace {

// Set by what a card measured (bench/RESULTS.md).
constexpr bool kForwardIsFaster = true, kBackwardIsFaster = true;

}  // namespace

bool fits_tiles(const at::Tensor& q, const AttentionOptions& options) {
  const int64_t size = q.size(2);
  // The softmax takes the largest score before it scales.
  return q.scalar_type() == at::kBFloat16 && (size == 64 || size == 128) && options.scale > 0;
}

bool is_tiled(const AttentionInputs& in, const AttentionCalls& calls, const AttentionOptions& options,
              bool is_backward) {
  return (is_backward ? kBackwardIsFaster : kForwardIsFaster) && calls.tiles() && fits_tiles(in.q, options);
}

AttentionOutput tiled_attention(const AttentionInputs& in, const AttentionTiles& tiles,
                                const AttentionOptions& options) {
  static const auto op = find_operator<FlatTiled>("fpdist::tiled_attention");
  const auto [out, lse] = op.call(in.q, in.k, in.v, tiles.flat(), options.scale, options.rounded);
  return {out, lse};
}

AttentionGradients tiled_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                            const AttentionOutput& merged, const AttentionTiles& tiles,
                                            const AttentionOptions& options) {
  static const auto op = find_operator<FlatTiledBackward>("fpdist::tiled_attention_backward");
  const auto [dq, dk, dv] = op.call(grad_out, in.q, in.k, in.v, merged.out, merged.lse, tiles.flat(),
                                    tiles.lengths_by_key, options.scale, options.rounded);
  return {dq, dk, dv};
}

}  // namespace fpdist::kernels
