#pragma once
// tree_attention of decoding steps on a GPU: a plan (decode_plan.hpp) on the device, made once per step and used by all
// layers. Nothing here waits for the device.

#include <ATen/core/Tensor.h>

#include <span>

#include "kernels/tree_attention/decode/decode_plan.hpp"

namespace fpdist::kernels {

/// int32, all parts of one tensor.
struct DecodeTables {
  at::Tensor item;        ///< [5 items]: DecodeItem
  at::Tensor part_begin;  ///< [queries + 1]
  at::Tensor part;        ///< [parts]
  int64_t slots = 0;
};

DecodeTables make_decode_tables(std::span<const Piece> pieces, int64_t queries, const DecodeShape& shape,
                                at::Device device);

}  // namespace fpdist::kernels
