#pragma once
// model: which part of a model one rank holds: a run of layers (its pipeline stage) and a slice of their weights (its
// place in tensor parallelism).

#include <cstdint>

#include "fpdist/model/config.hpp"

namespace fpdist::model {

/// The layers of one stage.
struct StageLayers {
  int64_t first = 0, count = -1;  ///< blocks [first, first + count); -1: all from `first` on
  bool embedding = true;          ///< the token embedding belongs to the stage
  bool head = true;               ///< the final norm and the head belong to it
};

/// A rank's place on the tensor-parallel axis.
struct TensorShard {
  int rank = 0, size = 1;
};

/// Throws ConfigError, naming parallel.tp and the nearest degrees that work, unless `tp` divides the attention heads
/// and either divides the key/value heads or is a multiple of them.
void check_tensor_parallel(const ModelConfig& config, int tp);

/// Tensor-parallel ranks that hold the same key/value head: 1, or tp / heads where tp exceeds the heads. Ranks
/// [i * replicas, (i + 1) * replicas) share one; they sum its gradients (ops::Sharding::Sum::kReplicas).
int key_value_replicas(const ModelConfig& config, int tp);

}  // namespace fpdist::model
