#pragma once
// rewards (private): a program that judges, started once, spoken to by JSON lines.

#include <functional>

#include "fpdist/rewards/rewards.hpp"

namespace fpdist::rewards {

/// A line a completion on its standard input, {"id", "prompt", "completion", "completion_ids", "finish_reason",
/// "columns"}; a line {"id", "reward": number or null, "metrics": {name: number, ...}, which may be left out} each on
/// its standard output, in any order. One that dies, is not done in time or writes what is no such line is started once
/// more in a round, for those that it has not judged; then DataError with its last words. Time counts over a round's
/// calls, while they wait for it.
struct CommandJudge {
  RewardFunction judge;
  std::function<SaidByName()> end_round;  ///< metrics of all lines since this was called last
  /// From any thread: who waits in judge, or comes until the round ends, gets a DataError at once; what the program was
  /// at is ended with it, and it is started anew when there is something to judge again.
  std::function<void()> give_up;
};

/// Throws DataError where it cannot be started.
CommandJudge make_command_reward(const RewardOptions& options);

}  // namespace fpdist::rewards
