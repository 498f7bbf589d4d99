#pragma once
// model: kept keys of a run of layers of which each has its own places, and how much they are attended to.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "fpdist/ops/attention_calls.hpp"

namespace fpdist::model {

/// For one call.
struct LayerwiseKeys {
  struct LayerRows {
    at::Tensor row;           ///< [n] int64: where in the layer's keys the call's rows are
    ops::AttentionMask mask;  ///< of the call's rows and all keys of the layer
  };
  /// Rows [begin, begin + rows) of the call, whose attention to the first `keys` keys of their own run is added up: a
  /// run stands side by side in every layer, and these rows are its last ones so far.
  struct Counted {
    int64_t begin = 0, rows = 0, keys = 0;
    std::vector<int64_t> first;   ///< [layers] where the run begins
    std::vector<at::Tensor> sum;  ///< [layers] of [the run's rows] float64, over queries and heads
  };
  std::vector<LayerRows> layer;
  std::vector<Counted> counted;
};

/// [n,Hq,D] in q's dtype of the call's rows over the layer's keys, with sums added to.
at::Tensor layerwise_attention(const ops::AttentionInputs& in, const ops::AttentionOptions& options,
                               LayerwiseKeys& keys, size_t layer);

}  // namespace fpdist::model
