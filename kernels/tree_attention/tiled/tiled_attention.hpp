#pragma once
// tree_attention by our own kernels: Hopper's, whole masks in one launch. Who runs what, in order:
//   these            bfloat16, head size 64 or 128, compute capability 9.0, where is_tiled says so
//   cuDNN            a call of the levels that it is sound for (library/varlen_choose.cpp), not deterministic
//   FlashAttention 2 bfloat16 from sm_80 on
//   plain products   everything else

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/mask/attention_calls.hpp"

namespace fpdist::kernels {

/// Whether the kernels take these arguments at all.
bool fits_tiles(const at::Tensor& q, const AttentionOptions& options);

/// Whether they are what runs, forward or backward: they fit, the calls brought tiles, and they are the faster ones.
bool is_tiled(const AttentionInputs& in, const AttentionCalls& calls, const AttentionOptions& options,
              bool is_backward);

/// As kernels::tree_attention and its backward; any strides.
AttentionOutput tiled_attention(const AttentionInputs& in, const AttentionTiles& tiles,
                                const AttentionOptions& options);
AttentionGradients tiled_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                            const AttentionOutput& merged, const AttentionTiles& tiles,
                                            const AttentionOptions& options);

/// The operators behind these two, defined where they are implemented.
using FlatTiled = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::TensorList tiles, double scale, bool rounded);
using FlatTiledBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, at::TensorList tiles, at::IntArrayRef lengths_by_key, double scale, bool rounded);

}  // namespace fpdist::kernels
