#pragma once
// trainer (private): Objective, which loss a step is taken from and what it needs. The trainer asks here, never which
// method it is.

#include <span>
#include <utility>

#include "fpdist/config/config.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/data/virtual_tokens.hpp"
#include "src/trainer/planning/planned_step.hpp"

namespace fpdist::trainer {

class Objective {
 public:
  /// Throws ConfigError naming loss.<key>.
  explicit Objective(const Config& config, const data::VirtualTokens& behind = {});
  /// Another loss in the method's place: it gets what the method's would, but for the step's view.
  void set_loss(loss::LossFunction loss) {
    loss_ = std::move(loss), look_ = {}, shape_ = loss::GroupShape::kAny, is_mean_nll_ = false;
  }
  /// The same loss with more around it.
  void wrap_loss(loss::LossFunction loss) { loss_ = std::move(loss); }
  /// What the loss makes of a group: one of the caller's own takes any.
  loss::GroupShape shape() const { return shape_; }

  bool is_mean_nll() const { return is_mean_nll_; }  ///< loss::LossSpec's; of a caller's own loss nothing is known

  const loss::Needs& needs() const { return needs_; }
  loss::LossOutput operator()(const loss::Edges& edges, const plan::StepTotals& totals) const {
    return loss_(edges, totals);
  }
  /// What it takes down ahead of a step, see loss::make_look; empty: nothing.
  const loss::Look& look() const { return look_; }
  /// A step's groups as the loss wants them: rollouts get their advantages, and those that were cut lose their targets
  /// where loss.mask_truncated_completions says so; prompts that are learned get targets; the caller's groups stay as
  /// they are.
  /// Behind virtual tokens, where there are such: their rows are counted as any others; but for groups that `step`
  /// drops, the number of their step from 1, 0 for none.
  /// Throws DataError for a reward that is not finite.
  StepGroups prepare(std::span<const data::Group> groups, int64_t step) const;

 private:
  StepGroups prepare_for_loss(std::span<const data::Group> groups) const;

  loss::LossOptions options_;
  data::VirtualTokens behind_;
  loss::Needs needs_;
  loss::GroupShape shape_;
  bool is_mean_nll_;
  loss::LossFunction loss_;
  loss::Look look_;
};

}  // namespace fpdist::trainer
