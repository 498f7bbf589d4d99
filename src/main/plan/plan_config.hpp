#pragma once
// main: the steps of a config as fpdist_plan plans them. No weights are read, no ranks started.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/main/plan/plan_report.hpp"

namespace fpdist::main_program {

struct ConfigRequest {
  std::vector<std::string> arguments;  ///< --config FILE and section.key arguments, as fpdist_train takes them
  std::string costs;                   ///< a cost file; empty: the config's, or FLOPs
  int64_t steps = 1;                   ///< the first n
};

/// One request a step. The mesh's -1 becomes 1. Needs the model's config.json alone, not its weights. Throws as
/// fpdist_train does, and ConfigError when the costs are of another model.
std::vector<PlanRequest> read_config(const ConfigRequest& wanted);

}  // namespace fpdist::main_program
