#pragma once
// model: rows of a call that see a part of their kept keys only (ops/flex_prefill.hpp).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "src/ops/flex_prefill.hpp"

namespace fpdist::model {

/// The rows of a call, for all layers of a rank.
struct SparseRows {
  /// Rows [begin, begin + rows) of the call, one below the other on a path.
  struct Window {
    int64_t begin = 0, rows = 0;
    at::Tensor path;  ///< [N] int64: places of all keys above the last row and of its own, by depth
  };
  std::vector<Window> window;
  at::Tensor whole;             ///< [w] int64, ascending: rows that see all their keys, of a window or of none
  kernels::AttentionMask seen;  ///< by these
  ops::FlexSearch search;
  ops::FlexArea area;  ///< what all calls of all layers have kept
};

/// [n,Hq,D] in q's dtype of the call's rows; in.k and in.v: all kept ones [R,Hkv,D].
at::Tensor sparse_attention(const kernels::AttentionInputs& in, const kernels::AttentionOptions& options,
                            SparseRows& rows);

}  // namespace fpdist::model
