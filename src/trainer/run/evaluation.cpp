#include "src/trainer/run/evaluation.hpp"

#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::trainer {

RunEvaluation::RunEvaluation(const TrainOptions& options, Evaluate evaluate, BestEvaluation best)
    : evaluate_(std::move(evaluate)),
      every_(options.eval_steps),
      on_start_(options.eval_on_start),
      best_(options, best) {
  if (evaluate_) best_.check_names(evaluate_(EvaluationOf::kNothing).values);
}

bool RunEvaluation::is_due(int64_t step, bool is_last) const {
  if (step == 0) return evaluate_ && on_start_;
  return evaluate_ && (is_last || (every_ > 0 && step % every_ == 0));
}

EvaluationRow RunEvaluation::run() {
  EvaluationRow row{.metrics = evaluate_(EvaluationOf::kAll), .verdict = {}};
  if (row.metrics.step > 0) row.verdict = best_.see(row.metrics.step, row.metrics.values);
  return row;
}

std::string evaluation_line(const StepMetrics& metrics, const loss::Shown& shown) {
  std::string line = text("evaluation after step ", metrics.step, ":");
  const auto say = [&](std::string_view label, const std::string& name, const char* format) {
    const auto found = metrics.values.find("eval_" + name);
    if (found != metrics.values.end())
      line += text(line.ends_with(':') ? " " : "  ", label, number(format, found->second));
  };
  say("loss", "loss", " %.4f");
  say("perplexity", "perplexity", " %.4g");
  if (!shown.label.empty()) say(shown.label, std::string(shown.metric), " %.3f");
  say("", "tokens_per_second", "%.0f tokens/s");
  return line;
}

}  // namespace fpdist::trainer
