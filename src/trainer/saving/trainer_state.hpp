#pragma once
// trainer (private): all of a training state that is no tensor, and its text, a checkpoint's state.json.

#include <cstdint>
#include <map>
#include <string>

#include "fpdist/core/mesh_shape.hpp"
#include "src/trainer/planning/step_planner.hpp"
#include "src/trainer/saving/settings.hpp"
#include "src/trainer/step/step_guard.hpp"

namespace fpdist::trainer {

struct TrainerState {
  int64_t step = 0;         ///< steps done
  int64_t updates = 0;      ///< of the optimizer: steps that were left out are not among them
  int64_t tokens_seen = 0;  ///< logical ones
  MeshShape mesh;           ///< that saved it
  std::map<std::string, std::string> libraries;
  Settings settings;  ///< but those of the data
  PlannerState planner;
  GuardState guard;
  std::string seen_tokens;   ///< SeenTokens::to_text; "": no scores
  std::string notes = "{}";  ///< the caller's own, a JSON object
};

std::string to_json(const TrainerState& state);

/// Throws ModelFileError naming `where`, and the first field that is missing or no such value; for a format that is
/// newer than this program's, too.
TrainerState parse_trainer_state(const std::string& json, const std::string& where);

}  // namespace fpdist::trainer
