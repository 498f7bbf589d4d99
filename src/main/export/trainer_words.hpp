#pragma once
// main: what of a checkpoint's state.json fpdist_export understands and writes.

#include <cstdint>
#include <optional>
#include <string>

#include "fpdist/arch/model.hpp"
#include "src/checkpoint/state/training_state.hpp"

namespace fpdist::main_program {

/// The pad_token_id that a run exports with its reward model after `state`.
std::optional<int64_t> pad_token_of(const checkpoint::TrainingState& state, const arch::Model& model);

/// state.json ahead of the first step of any run.
std::string first_state(const arch::Model& model, Head head);

}  // namespace fpdist::main_program
