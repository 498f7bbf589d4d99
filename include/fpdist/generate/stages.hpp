#pragma once
// generate: the model that generates, whole on one rank or in parts on several.

#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/model/transformer.hpp"

namespace fpdist::generate {

/// What a rank has of it: its runs of layers, the first one first, slices of them where the model was made for tp.
/// Ranks of `pp` hold the runs in turn, as training's schedules have them.
struct Stages {
  std::vector<const model::Transformer*> runs;
  comm::Communicator* pp = nullptr;  ///< null: this rank's runs are all
};

}  // namespace fpdist::generate
