#pragma once
// model: keys and values of rows that were computed, for who computes further rows behind them (generation).

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

namespace fpdist::model {

struct SparseRows;
struct LayerwiseKeys;

/// R places for rows, the same in every layer. A place that no row has come to yet holds zeros and must be visible to
/// nobody. Belongs to one version of the weights.
struct KeptKeys {
  at::Tensor row;                            ///< [n] int64: the places of the n rows that a call computes
  std::vector<at::Tensor> keys, values;      ///< [layers] of [R,Hkv,D] in the model's dtype
  std::shared_ptr<SparseRows> sparse;        ///< which of the rows see a part of their keys only; null: none
  std::shared_ptr<LayerwiseKeys> layerwise;  ///< which places each layer has keys of; null: all R
  bool batch_invariant = false;              ///< attention and products as src/ops/batch_invariant.hpp has it
};

}  // namespace fpdist::model
