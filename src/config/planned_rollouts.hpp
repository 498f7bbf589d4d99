#pragma once
// config: which prompts the rounds of a run complete that makes its own rollouts, and what is known of them ahead:
// their prompts, and that no completion is longer than rollout.max_completion_length.

#include <cstdint>
#include <vector>

#include "fpdist/config/settled.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/data/prompts.hpp"
#include "fpdist/data/sample.hpp"
#include "src/config/rollout_inputs.hpp"

namespace fpdist::config {

/// Round r completes prompts r * n ... (r + 1) * n - 1 of an endless row of shuffled epochs, n =
/// train.groups_per_step * rollout.steps_per_generation; its steps take train.groups_per_step of them each, in turn.
class RolloutRounds {
 public:
  RolloutRounds(const Config& config, int64_t prompts);

  int64_t prompts_in_round() const { return a_step_ * steps_per_generation_; }
  int64_t steps_in_round() const { return steps_per_generation_ * num_iterations_; }
  int64_t steps_per_epoch() const;
  int64_t round_of(int64_t step) const { return step / steps_in_round(); }
  int64_t first_step_of(int64_t round) const { return round * steps_in_round(); }
  /// The number of a round's first prompt among those of all rounds, and its prompts by their place in the files.
  int64_t first_of(int64_t round) const { return round * prompts_in_round(); }
  std::vector<int64_t> prompts_of(int64_t round) const;
  /// Where a step's prompts begin among its round's.
  int64_t place_of(int64_t step) const { return step % steps_per_generation_ * a_step_; }

 private:
  int64_t prompts_, a_step_, steps_per_generation_, num_iterations_;
  data::Loader order_;  // of single prompts
};

/// A step's groups as they are at most: completions of max_completion_length tokens that share none.
std::vector<data::Group> longest_rollouts(const std::vector<data::PromptRow>& prompts, const RolloutRounds& rounds,
                                          const Config& config, int64_t step);

/// What lies in a rank's memory while it generates, at most and beside the weights that it trains. Rows that prompts of
/// a replica share count once.
struct RolloutMemory {
  int64_t completions = 0, prompt_rows = 0;  ///< decoded together, behind these, in a replica
  int64_t length = 0;                        ///< of a completion
  int64_t keys = 0;                          ///< bytes of keys and values; rollout.kv_gib is the most
  int64_t packed_weights = 0;                ///< bytes of a float32 model's weights once more, on the CPU
  int64_t total() const { return keys + packed_weights; }
};
/// Of the first round, or of an evaluation where that takes more; `weights`: bytes of the model on a rank.
RolloutMemory rollout_memory(const RolloutInputs& inputs, const RolloutRounds& rounds, const Settled& job,
                             int64_t weights);

}  // namespace fpdist::config
