#pragma once
// trainer (private): a checkpoint's folder as the ranks of a job look at it together.

#include <string>

#include "src/checkpoint/state/training_state.hpp"
#include "src/files/inputs.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/saving/trainer_state.hpp"

namespace fpdist::trainer {

/// Collective. Throws ConfigError, on every rank the same, where saving to `directory` would write over an input that
/// rank 0 sees.
void refuse_inputs(const std::string& directory, const files::Inputs& inputs, const comm::World& world);

/// What goes into a checkpoint beside the tensors.
checkpoint::StateTexts texts_of(const TrainerState& state, const Job& job, Head head);

/// Collective. What is wrong with the files of `directory`, of the first rank that finds something; "" where they are
/// whole.
std::string fault_together(const std::string& directory, const comm::World& world);

/// Throws ModelFileError unless `stored`, of `directory`, is of the job's model.
void check_is_of(const arch::Model& model, Head head, const checkpoint::TrainingState& stored,
                 const std::string& directory);

}  // namespace fpdist::trainer
