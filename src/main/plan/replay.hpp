#pragma once
// main: a step of a run planned again, from what the run wrote down of it (step-N.plan.json).

#include <cstdint>
#include <string>

namespace fpdist::main_program {

struct Replay {
  int64_t step = 0;
  std::string why;     ///< it was written down: what was not finite
  std::string config;  ///< the file that plans the step, and that fpdist_train runs alone
  uint64_t hash = 0;   ///< of the run's plan
};

/// Throws ConfigError for a file that is missing or none that a run wrote.
Replay read_replay(const std::string& path);

/// Throws ConfigError unless `hash`, of the plan made here, is the run's.
void check_replay(const Replay& replay, uint64_t hash);

}  // namespace fpdist::main_program
