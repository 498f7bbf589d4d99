#pragma once
// trainer (private): Reference, the frozen model whose log-probs a loss compares with: a copy of the first weights
// (beside an adapter of those that it trains alone), or those of a directory of its own.

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/model/transformer.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/planning/step_planner.hpp"

namespace fpdist::trainer {

/// A rank's runs of layers, in model order.
using ModelRuns = std::vector<std::unique_ptr<model::Transformer>>;

/// Collective. One forward of these runs over the samples, planned as steps of `per_step` groups are: the log-probs of
/// their supervised tokens, at the temperature of the loss, in the samples' field `into`, 0 elsewhere.
void store_logps(const ModelRuns& runs, std::vector<double> data::Sample::*into, std::span<data::Group> groups,
                 size_t per_step, const Job& job, const StepPlanner& planner);

/// Frozen runs that compute what `policy` does now, or without its adapter; weights that are never trained are policy's
/// own, not copies.
std::vector<std::unique_ptr<model::Transformer>> frozen_copy(
    const std::vector<std::unique_ptr<model::Transformer>>& policy, bool keeps_adapter = true);

/// Whether every sample of the groups brings the reference's log-probs with it.
bool has_reference_logps(std::span<const data::Group> groups);

/// What a user may not expect of the reference of a run over `groups`; "" where there is nothing: log-probs or a
/// model.ref_path that nobody reads, weights of an earlier run that become their own reference.
std::string reference_warning(std::span<const data::Group> groups, const loss::Needs& needs, const Config& config);

class Reference {
 public:
  /// None: no sample is ever compared, or only with what it brings.
  Reference() = default;
  /// Frozen runs of layers, as this rank's policy has them.
  explicit Reference(std::vector<std::unique_ptr<model::Transformer>> runs) : runs_(std::move(runs)) {}

  bool is_there() const { return !runs_.empty(); }
  /// Own runs of layers, in model order.
  const std::vector<std::unique_ptr<model::Transformer>>& runs() const { return runs_; }
  /// Frees its memory.
  void drop() { runs_.clear(); }
  /// Collective. One pass of the frozen model: its log-probs of every sample, stored in the samples. `per_step` groups
  /// at a time, planned as a step is.
  void store_logps(std::span<data::Group> groups, size_t per_step, const Job& job, const StepPlanner& planner) const;

 private:
  std::vector<std::unique_ptr<model::Transformer>> runs_;
};

}  // namespace fpdist::trainer
