#pragma once
// trainer (private): what the steps of a run are made of.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/trainer/saving/settings.hpp"

namespace fpdist::trainer {

/// By what a run knows its data again.
struct DataMark {
  int64_t groups = 0;
  /// Checksum of every field of every sample, in the order of the groups; "": of no data yet (fpdist_export).
  std::string samples = {};
  std::string order;  ///< checksum of which groups the first epoch's steps have
  Settings settings;  ///< data.*, to say what is other
};

using SharedGroups = std::shared_ptr<const std::vector<data::Group>>;

/// Collective: an evaluation between two steps; of nothing where the names of its numbers alone are wanted.
enum class EvaluationOf { kNothing, kAll };
using Evaluate = std::function<StepMetrics(EvaluationOf of)>;

class RunData {
 public:
  virtual ~RunData() = default;
  /// "1000 groups": what an epoch goes through.
  virtual std::string size() const = 0;
  virtual int64_t steps_per_epoch() const = 0;
  virtual const DataMark& mark() const = 0;
  /// What was wrong with rows that were left out.
  virtual std::vector<std::string> skipped() const = 0;
  /// Collective, once, when output_dir is there: says what there is to say, computes what all steps need.
  virtual void prepare(LogSink& log) = 0;
  /// Collective: the groups of a step (0-based), when all steps ahead of it are done.
  virtual SharedGroups step(int64_t index, LogSink& log) = 0;
  /// The same of a step to come, which step() will then return; null where it depends on steps to be done.
  virtual SharedGroups ahead(int64_t index) = 0;
  /// What there is to say of the step that step() was asked for last.
  virtual void add_metrics(StepMetrics& metrics) const = 0;
  /// Empty where there is nothing to evaluate on. It lives as long as this.
  virtual Evaluate evaluation() = 0;
  /// A JSON object: what step() of the steps behind `done` needs beside the weights.
  virtual std::string state(int64_t done) const = 0;
  /// Goes on from it. Throws ModelFileError naming `where`.
  virtual void go_on_from(const std::string& state, const std::string& where) = 0;
};

}  // namespace fpdist::trainer
