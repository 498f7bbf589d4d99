#pragma once
// trainer (private): BestSoFar, which of a run's evaluations was the best and whether better ones are still to be
// hoped for. Pure: it is told each evaluation's step and metrics.

#include <cstdint>
#include <map>
#include <string>

#include "fpdist/trainer/options.hpp"

namespace fpdist::trainer {

/// All that BestSoFar remembers, for a later process to go on from.
struct BestEvaluation {
  int64_t step = 0;  ///< of the best evaluation; 0: there was none
  double metric = 0;
  int64_t without_better = 0;  ///< evaluations since
  bool operator==(const BestEvaluation&) const = default;
};

/// A JSON object; throws ModelFileError naming `where` for one that is not such a one. Of "{}" there was no evaluation.
std::string to_json(const BestEvaluation& best);
BestEvaluation parse_best_evaluation(const std::string& json, const std::string& where);

class BestSoFar {
 public:
  struct Verdict {
    bool is_best = false;  ///< this is the best evaluation so far
    bool stop = false;     ///< train.early_stopping_patience evaluations were no better
  };

  explicit BestSoFar(const TrainOptions& options, BestEvaluation state = {});
  /// The metric that decides, with eval_ in front.
  const std::string& metric() const { return metric_; }
  /// Throws ConfigError, with the metrics there are, where the one that decides is not among them.
  void check_names(const std::map<std::string, double>& metrics) const;
  /// One evaluation, in the order of steps. What is not a number is never better; what equals the best is not, either.
  Verdict see(int64_t step, const std::map<std::string, double>& metrics);
  /// train.early_stopping_patience evaluations were no better, in an earlier process or here.
  bool is_over() const { return patience_ > 0 && state_.without_better >= patience_; }
  const BestEvaluation& state() const { return state_; }

 private:
  std::string metric_;
  bool greater_is_better_;
  int64_t patience_;
  BestEvaluation state_;
};

}  // namespace fpdist::trainer
