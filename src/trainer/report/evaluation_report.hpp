#pragma once
// trainer (private): an evaluation's names and numbers. Pure, as step_report is.

#include <map>
#include <string>

#include "fpdist/plan/step_plan.hpp"

namespace fpdist::trainer {

/// What was evaluated, the same on every rank.
struct Evaluated {
  std::map<std::string, double> metrics = {};  ///< of the groups and of the loss, without eval_
  plan::StepTotals totals = {};
  double seconds = 0;        ///< of the host, from the groups to the last result
  bool is_mean_nll = false;  ///< the loss is minus a mean of log-probs
};

/// TRL's names, eval_ in front of all: the metrics, eval_perplexity where the loss is a mean of minus log-probs,
/// eval_runtime in seconds, eval_samples_per_second (groups, which are TRL's rows), eval_tokens_per_second (logical
/// tokens), eval_sharing_ratio.
std::map<std::string, double> report_evaluation(const Evaluated& evaluated);

}  // namespace fpdist::trainer
