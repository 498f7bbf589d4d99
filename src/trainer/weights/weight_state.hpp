#pragma once
// trainer (private): masters and moments as pieces of a training state, and back, on any mesh. The model's own values
// are no part of it: they are the masters, rounded.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "src/checkpoint/state/training_state.hpp"
#include "src/trainer/weights/weights.hpp"

namespace fpdist::trainer {

/// What this rank adds to a training state: of every weight the elements that it updates and that no other rank counts,
/// as NAME/master, NAME/exp_avg and NAME/exp_avg_sq. `to_host` gives a part's copy on the host, or the part itself
/// where that is on the host and stays as it is for as long as it is needed; parts come in the same order each time.
std::vector<checkpoint::StatePiece> state_pieces(Weights& weights,
                                                 const std::function<at::Tensor(const at::Tensor& part)>& to_host);

/// Throws ModelFileError where `state`, of `directory`, has not all weights of `whole` in these shapes, naming the
/// first.
void check_has_weights(const checkpoint::TrainingState& state, std::span<const arch::NamedShape> whole,
                       const std::string& directory);

/// Collective over mesh.dp_cp(). The weights as `state` has them, after `updates` of the optimizer; this rank's part of
/// them is all that is read. Throws ModelFileError, with the weights in any state, where an element is missing.
void read_weights(const checkpoint::TrainingState& state, int64_t updates, Weights& weights);

}  // namespace fpdist::trainer
