#pragma once
// model: which part of a model one rank holds: a run of layers (its pipeline stage) and a slice of their weights (its
// place in tensor parallelism).

#include <cstdint>

#include "fpdist/arch/model.hpp"

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

}  // namespace fpdist::model
