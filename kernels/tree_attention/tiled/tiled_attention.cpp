#include "kernels/tree_attention/tiled/tiled_attention.hpp"

#include "kernels/common/dispatch.hpp"

namespace fpdist::kernels {
TiledKernels tiled_kernels_for(const at::Tensor& q, int64_t capability, const AttentionOptions& options) {
  // The softmax takes the largest score before it scales.
  const bool is_float16 = q.scalar_type() == at::kHalf;
  if ((q.scalar_type() != at::kBFloat16 && !is_float16) || options.scale <= 0 || capability < 80)
    return TiledKernels::kNone;
  switch (q.size(2)) {
    case 64:
    case 128:
      // wgmma is Hopper's alone, and its kernels are built for bfloat16.
      return capability == 90 && !is_float16 ? TiledKernels::kHopper : TiledKernels::kPortable;
    case 96:
    case 256:
      return TiledKernels::kPortable;
    default:
      return TiledKernels::kNone;
  }
}

bool is_tiled(const AttentionInputs& in, const AttentionCalls& calls, const AttentionOptions& options) {
  return calls.tiles() && tiled_kernels_for(in.q, calls.capability(), options) != TiledKernels::kNone;
}

AttentionOutput tiled_attention(const AttentionInputs& in, const AttentionTiles& tiles,
                                const AttentionOptions& options) {
  static const auto op = find_operator<FlatTiled>("fpdist::tiled_attention");
  const auto [out, lse] = op.call(in.q, in.k, in.v, tiles.flat(), tiles.capability, tiles.lengths_by_query,
                                  tiles.processors, options.scale, options.rounded);
  return {out, lse};
}

AttentionGradients tiled_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                            const AttentionOutput& merged, const AttentionTiles& tiles,
                                            const AttentionOptions& options) {
  static const auto op = find_operator<FlatTiledBackward>("fpdist::tiled_attention_backward");
  const auto [dq, dk, dv] =
      op.call(grad_out, in.q, in.k, in.v, merged.out, merged.lse, tiles.flat(), tiles.capability,
              tiles.lengths_by_query, tiles.lengths_by_key, tiles.processors, options.scale, options.rounded);
  return {dq, dk, dv};
}

}  // namespace fpdist::kernels
