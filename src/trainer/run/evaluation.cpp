#include "src/trainer/run/evaluation.hpp"

#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::trainer {

RunEvaluation::RunEvaluation(Trainer& trainer, std::vector<data::Group> groups, BestEvaluation best)
    : trainer_(trainer),
      groups_(std::move(groups)),
      every_(trainer.settled().config.train.eval_steps),
      best_(trainer.settled().config.train, best) {
  if (!groups_.empty()) best_.check_names(trainer.evaluate({}).values);
}

bool RunEvaluation::is_due(int64_t step, bool is_last) const {
  return !groups_.empty() && (is_last || (every_ > 0 && step % every_ == 0));
}

EvaluationRow RunEvaluation::run() {
  EvaluationRow row{.metrics = trainer_.evaluate(groups_), .verdict = {}};
  row.verdict = best_.see(row.metrics.step, row.metrics.values);
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
