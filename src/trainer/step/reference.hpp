#pragma once
// trainer (private): Reference, the frozen copy of the first weights whose log-probs a loss compares with.

#include <memory>
#include <span>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/model/transformer.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/planning/step_planner.hpp"

namespace fpdist::trainer {

/// Whether every sample of the groups brings the reference's log-probs with it.
bool has_reference_logps(std::span<const data::Group> groups);

class Reference {
 public:
  /// None: no sample is ever compared, or only with what it brings.
  Reference() = default;
  /// The same weights as `policy`, frozen.
  explicit Reference(const std::vector<std::unique_ptr<model::Transformer>>& policy);

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
