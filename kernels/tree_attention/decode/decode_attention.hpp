#pragma once
// tree_attention of decoding steps by our own kernels (decode_attention_kernel.hpp): who sees whom comes as tables, one
// query a leaf, any number of them under a node. Forward only. From sm_80 on, of bfloat16 and float32, head sizes 64
// and 128, a scale above 0 and at most 64 (float32: 16) query heads a head of keys; the rest goes its other ways
// (tiled/tiled_attention.hpp).

#include <optional>
#include <tuple>

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/mask/attention_calls.hpp"

namespace fpdist::kernels {

/// Of the plan for these arguments; nothing where the kernels do not take them, whatever the device.
std::optional<DecodeShape> decode_shape_of(const AttentionInputs& in, const AttentionOptions& options);

/// The tables for these arguments; null where the calls are of no step that decodes, or the kernels do not take them.
const DecodeTables* decode_tables(const AttentionInputs& in, const AttentionCalls& calls,
                                  const AttentionOptions& options);

/// As kernels::tree_attention; any strides.
AttentionOutput decode_attention(const AttentionInputs& in, const DecodeTables& tables,
                                 const AttentionOptions& options);

/// The operator behind it, defined where it is implemented.
using FlatDecode = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      const at::Tensor& item, const at::Tensor& part_begin,
                                                      const at::Tensor& part, int64_t slots, double scale,
                                                      bool rounded);

}  // namespace fpdist::kernels
