#include "kernels/tree_attention/decode/decode_attention.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/tensors.hpp"
#include "kernels/tree_attention/mask/upload.hpp"

namespace fpdist::kernels {

std::optional<DecodeShape> decode_shape_of(const AttentionInputs& in, const AttentionOptions& options) {
  const int64_t size = in.q.size(2), group = in.q.size(1) / std::max<int64_t>(1, in.k.size(1)),
                rows = decode_rows_of_tile(element_of(in.q));
  const bool fits = has_kernel(in.q.scalar_type()) && (size == 64 || size == 128) && group <= rows;
  // The softmax takes the largest score before it scales.
  if (!fits || options.scale <= 0) return std::nullopt;
  return DecodeShape{.group = group, .key_heads = in.k.size(1), .rows_of_tile = rows};
}

DecodeTables make_decode_tables(std::span<const Piece> pieces, int64_t queries, const DecodeShape& shape,
                                at::Device device) {
  const DecodePlan plan = plan_decoding(pieces, queries, shape);
  constexpr size_t kNumbers = sizeof(DecodeItem) / sizeof(int32_t);
  UploadArena arena;
  arena.add({reinterpret_cast<const int32_t*>(plan.item.data()), kNumbers * plan.item.size()});
  arena.add(plan.part_begin), arena.add(plan.part);
  const std::vector<at::Tensor> parts = arena.on(device);
  return {.item = parts[0], .part_begin = parts[1], .part = parts[2], .slots = plan.slots};
}

const DecodeTables* decode_tables(const AttentionInputs& in, const AttentionCalls& calls,
                                  const AttentionOptions& options) {
  const std::optional<DecodeShape> shape = decode_shape_of(in, options);
  return shape ? calls.decoding(*shape) : nullptr;
}

AttentionOutput decode_attention(const AttentionInputs& in, const DecodeTables& tables,
                                 const AttentionOptions& options) {
  static const auto op = find_operator<FlatDecode>("fpdist::decode_attention");
  const auto [out, lse] = op.call(in.q, in.k, in.v, tables.item, tables.part_begin, tables.part, tables.slots,
                                  options.scale, options.rounded);
  return {out, lse};
}

}  // namespace fpdist::kernels
