#pragma once
// trainer (private): where a run over data stands, besides the trainer's own state: the notes of its checkpoints.

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/trainer/trainer.hpp"
#include "src/trainer/samples/run_data.hpp"

namespace fpdist::trainer {

struct RunNotes {
  DataMark data;
  double tokens_logical = 0, tokens_computed = 0;  ///< of all steps so far
  std::string evaluation = "{}";                   ///< to_json of the best evaluation
  std::string samples = "{}";                      ///< RunData::state: the rest of a round of rollouts

  /// One more step.
  void add(const StepMetrics& metrics);
};

/// A JSON object.
std::string to_json(const RunNotes& notes);

/// Throws ModelFileError naming `where`.
RunNotes parse_run_notes(const std::string& json, const std::string& where);

/// What of the data is other than it was, a line each: the samples or their order, and the keys that differ.
std::vector<std::string> changed_data(const DataMark& before, const DataMark& now);

}  // namespace fpdist::trainer
