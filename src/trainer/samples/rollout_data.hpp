#pragma once
// trainer (private): groups that the model makes itself, round by round (config::RolloutRounds): Shao et al.,
// "DeepSeekMath" (2024), GRPO. A round's prompts are completed by the weights that the steps before it have left; the
// completions are judged while others are decoded, their advantages taken over the round, and steps_per_generation *
// num_iterations steps learn from it. Which prompts and which draws a round has depends on its number and seeds alone.

#include <memory>
#include <span>

#include "src/trainer/samples/run_data.hpp"

namespace fpdist::trainer {

/// Collective. Reads rollout.prompts and, to evaluate on, data.eval_path; starts the rewards' program. `trainer` must
/// outlive it. Throws DataError, ConfigError for prompts that are none, that the model has no room for, that differ on
/// the ranks, and where nothing judges completions.
std::unique_ptr<RunData> make_rollout_data(Trainer& trainer, std::span<const rewards::NamedReward> rewards,
                                           LogSink& log);

}  // namespace fpdist::trainer
