#pragma once
// tree_attention by our own kernels, whole masks in one launch. Who runs what, in order:
//   Hopper's         bfloat16, head size 64 or 128, compute capability 9.0
//   the portable     bfloat16 or float16, head size 64, 96, 128 or 256, from 8.0 on
//   cuDNN            a call of the levels that it is sound for (library/varlen_choose.cpp), not deterministic
//   FlashAttention 2 bfloat16 and float16 from sm_80 on
//   plain products   everything else

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/mask/attention_calls.hpp"

namespace fpdist::kernels {

enum class TiledKernels { kNone, kPortable, kHopper };

/// Which of them take these arguments on a device of that compute capability.
TiledKernels tiled_kernels_for(const at::Tensor& q, int64_t capability, const AttentionOptions& options);

/// Whether they are what runs: they fit, and the calls brought tiles.
bool is_tiled(const AttentionInputs& in, const AttentionCalls& calls, const AttentionOptions& options);

/// As kernels::tree_attention and its backward; any strides.
AttentionOutput tiled_attention(const AttentionInputs& in, const AttentionTiles& tiles,
                                const AttentionOptions& options);
AttentionGradients tiled_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                            const AttentionOutput& merged, const AttentionTiles& tiles,
                                            const AttentionOptions& options);

/// The operators behind these two, defined where they are implemented.
using FlatTiled = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::TensorList tiles, int64_t capability,
                                                     at::IntArrayRef lengths_by_query, int64_t processors, double scale,
                                                     bool rounded);
using FlatTiledBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, at::TensorList tiles, int64_t capability, at::IntArrayRef lengths_by_query,
    at::IntArrayRef lengths_by_key, int64_t processors, double scale, bool rounded);

}  // namespace fpdist::kernels
