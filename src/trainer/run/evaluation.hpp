#pragma once
// trainer (private): the evaluations of a run: when, on what, and what is made of them.

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/loss/spec.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/trainer/run/best_so_far.hpp"
#include "src/trainer/samples/run_data.hpp"

namespace fpdist::trainer {

/// One evaluation.
struct EvaluationRow {
  StepMetrics metrics;  ///< a row of metrics.jsonl
  BestSoFar::Verdict verdict;
};

class RunEvaluation {
 public:
  /// Collective where there is something to `evaluate`; where that is empty there is no evaluation. Throws ConfigError
  /// where the metric that decides which is best is none of the evaluation's. `best`: of the evaluations of earlier
  /// processes.
  RunEvaluation(const TrainOptions& options, Evaluate evaluate, BestEvaluation best = {});

  /// After the last step, and after every train.eval_steps-th; after step 0, ahead of all, with train.eval_on_start.
  bool is_due(int64_t step, bool is_last) const;
  /// Collective, between two steps or ahead of the first, whose weights are nobody's best.
  EvaluationRow run();
  const BestSoFar& best() const { return best_; }

 private:
  Evaluate evaluate_;
  int64_t every_;
  bool on_start_;
  BestSoFar best_;
};

/// "evaluation after step 20: loss 0.5123  perplexity 1.669  accuracy 0.750  8123 tokens/s": what a person watches.
std::string evaluation_line(const StepMetrics& metrics, const loss::Shown& shown);

}  // namespace fpdist::trainer
