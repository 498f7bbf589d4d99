// tree_attention by our own kernels: from tensors to their launchers.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>

#include "kernels/common/checks.hpp"
#include "kernels/cuda/heads.hpp"
#include "kernels/tree_attention/cuda/tree_attention_kernel.hpp"
#include "kernels/tree_attention/portable/portable_attention.hpp"
#include "kernels/tree_attention/tiled/tiled_attention.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

/// x, or a copy whose strides the kernels take: TMA's, or rows of heads at whole 16-byte chunks.
at::Tensor with_strides(const at::Tensor& x, TiledKernels kernels) {
  if (kernels != TiledKernels::kHopper) return with_vectors(x);
  return x.stride(2) == 1 && fits_tensor_map(heads_of(x)) ? x : x.contiguous().clone();
}

TileLists lists_of(const AttentionTiles::Lists& lists) {
  return {.order = lists.order.const_data_ptr<int32_t>(),
          .offset = lists.offset.const_data_ptr<int32_t>(),
          .tile = lists.tile.const_data_ptr<int32_t>(),
          .blocks = static_cast<int32_t>(lists.order.numel())};
}

DeviceRows rows_of(const AttentionTiles& tiles) {
  return {tiles.q_row.const_data_ptr<int32_t>(),
          reinterpret_cast<const VisibleRows*>(tiles.key.const_data_ptr<int32_t>())};
}

ListCut cut_of(at::IntArrayRef lengths, int64_t heads, int64_t processors) {
  return cut_lists({lengths.data(), lengths.size()}, heads, static_cast<int>(processors));
}

int64_t padded(int64_t rows) { return (rows + kPaddedRows - 1) / kPaddedRows * kPaddedRows; }

TiledKernels check_tiled(const AttentionInputs& in, const AttentionTiles& tiles, double scale) {
  check_attention_inputs(in);
  const TiledKernels kernels = tiled_kernels_for(in.q, tiles.capability, {.scale = scale});
  check(kernels != TiledKernels::kNone,
        "tiled_attention: takes bfloat16 and float16, head sizes 64, 96, 128 and 256 and a scale above 0 from sm_80 "
        "on, not ",
        in.q.scalar_type(), ", ", in.q.size(2), " and ", scale, " on sm_", tiles.capability);
  check(tiles.q_row.numel() == padded(in.q.size(0)) && tiles.key.numel() == 2 * padded(in.k.size(0)),
        "tiled_attention: the tiles are for other numbers of rows than ", in.q.size(0), " and ", in.k.size(0));
  check(tiles.q_row.device() == in.q.device(), "tiled_attention: the tiles are on ", tiles.q_row.device(), ", q on ",
        in.q.device());
  return kernels;
}

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           at::TensorList flat, int64_t capability, at::IntArrayRef lengths_by_query,
                                           int64_t processors, double scale, bool rounded) {
  const AttentionTiles tiles = AttentionTiles::of(flat, capability);
  const TiledKernels kernels = check_tiled({q, k, v}, tiles, scale);
  const bool is_hopper = kernels == TiledKernels::kHopper;
  const c10::cuda::CUDAGuard guard(q.device());
  const auto wide = q.options().dtype(at::kFloat);
  const auto result = rounded ? q.options() : wide;
  if (q.numel() == 0 || k.numel() == 0)
    return {at::zeros(q.sizes(), result),
            at::full({q.size(0), q.size(1)}, -std::numeric_limits<float>::infinity(), wide)};
  const at::Tensor own_q = with_strides(q, kernels), own_k = with_strides(k, kernels), own_v = with_strides(v, kernels);
  at::Tensor out = at::empty(q.sizes(), result), lse = at::empty({q.size(0), q.size(1)}, wide);
  const ListCut cut = is_hopper ? ListCut{} : cut_of(lengths_by_query, q.size(1), processors);
  at::Tensor parts = at::empty({cut.parts, cut.blocks * kQueryBlock, q.size(1), q.size(2) + 1}, wide);
  const TreeAttentionArguments arguments{.q = heads_of(own_q),
                                         .k = heads_of(own_k),
                                         .v = heads_of(own_v),
                                         .out = out.mutable_data_ptr(),
                                         .lse = lse.mutable_data_ptr<float>(),
                                         .element = element_of(own_q),
                                         .result = element_of(out),
                                         .cut = cut,
                                         .parts = parts.mutable_data_ptr<float>(),
                                         .rows = rows_of(tiles),
                                         .by_query = lists_of(is_hopper ? tiles.by_query : tiles.by_query_backward),
                                         .scale = static_cast<float>(scale)};
  const auto launch = is_hopper ? launch_tree_attention : launch_portable_attention;
  C10_CUDA_CHECK(launch(arguments, c10::cuda::getCurrentCUDAStream()));
  return {out, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                        const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                                                        const at::Tensor& lse, at::TensorList flat, int64_t capability,
                                                        at::IntArrayRef lengths_by_query,
                                                        at::IntArrayRef lengths_by_key, int64_t processors,
                                                        double scale, bool rounded) {
  const AttentionTiles tiles = AttentionTiles::of(flat, capability);
  const TiledKernels kernels = check_tiled({q, k, v}, tiles, scale);
  check_tree_attention_backward(grad_out, q, {out, lse});
  const c10::cuda::CUDAGuard guard(q.device());
  const auto wide = q.options().dtype(at::kFloat);
  const auto result = rounded ? q.options() : wide;
  if (q.numel() == 0 || k.numel() == 0)
    return {at::zeros(q.sizes(), result), at::zeros(k.sizes(), result), at::zeros(v.sizes(), result)};
  const at::Tensor own_q = with_strides(q, kernels), own_k = with_strides(k, kernels), own_v = with_strides(v, kernels);
  const at::Tensor own_grad = with_strides(grad_out.to(q.scalar_type()), kernels);
  const at::Tensor own_out = out.contiguous(), own_lse = lse.contiguous();
  at::Tensor dq = at::empty(q.sizes(), result), dk = at::empty(k.sizes(), result), dv = at::empty(v.sizes(), result);
  const bool is_hopper = kernels == TiledKernels::kHopper;
  const ListCut cut = cut_of(lengths_by_key, k.size(1), processors);
  const ListCut query_cut = is_hopper ? ListCut{} : cut_of(lengths_by_query, q.size(1), processors);
  at::Tensor dq_parts = at::empty({query_cut.parts, query_cut.blocks * kQueryBlock, q.size(1), q.size(2)}, wide);
  at::Tensor partial = at::empty({cut.parts, 2, cut.blocks * kKeyBlock, k.size(1), k.size(2)}, wide);
  at::Tensor row_sums = at::empty({2, q.size(1), padded(q.size(0))}, wide);
  const TreeAttentionBackwardArguments arguments{.q = heads_of(own_q),
                                                 .k = heads_of(own_k),
                                                 .v = heads_of(own_v),
                                                 .grad_out = heads_of(own_grad),
                                                 .out = own_out.const_data_ptr(),
                                                 .lse = own_lse.const_data_ptr<float>(),
                                                 .row_sums = row_sums.mutable_data_ptr<float>(),
                                                 .dq = dq.mutable_data_ptr(),
                                                 .dk = dk.mutable_data_ptr(),
                                                 .dv = dv.mutable_data_ptr(),
                                                 .element = element_of(own_q),
                                                 .merged = element_of(own_out),
                                                 .result = element_of(dq),
                                                 .cut = cut,
                                                 .partial = partial.mutable_data_ptr<float>(),
                                                 .query_cut = query_cut,
                                                 .dq_parts = dq_parts.mutable_data_ptr<float>(),
                                                 .rows = rows_of(tiles),
                                                 .by_query = lists_of(tiles.by_query_backward),
                                                 .by_key = lists_of(tiles.by_key),
                                                 .scale = static_cast<float>(scale)};
  const auto launch = is_hopper ? launch_tree_attention_backward : launch_portable_attention_backward;
  C10_CUDA_CHECK(launch(arguments, c10::cuda::getCurrentCUDAStream()));
  return {dq, dk, dv};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "tiled_attention(Tensor q, Tensor k, Tensor v, Tensor[] tiles, int capability,"
      " int[] lengths_by_query, int processors, float scale, bool rounded) -> (Tensor out, Tensor lse)");
  m.def(
      "tiled_attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor[] tiles,"
      " int capability, int[] lengths_by_query, int[] lengths_by_key, int processors, float scale, bool rounded) -> "
      "(Tensor dq, Tensor dk, Tensor dv)");
}

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("tiled_attention", fpdist::kernels::forward);
  m.impl("tiled_attention_backward", fpdist::kernels::backward);
}
