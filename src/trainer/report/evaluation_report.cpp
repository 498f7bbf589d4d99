#include "src/trainer/report/evaluation_report.hpp"

#include <cmath>

namespace fpdist::trainer {

std::map<std::string, double> report_evaluation(const Evaluated& evaluated) {
  std::map<std::string, double> values;
  for (const auto& [name, value] : evaluated.metrics) values["eval_" + name] = value;
  if (evaluated.is_mean_nll) values["eval_perplexity"] = std::exp(evaluated.metrics.at("loss"));
  const auto per_second = [&](int64_t count) {
    return evaluated.seconds > 0 ? static_cast<double>(count) / evaluated.seconds : 0.0;
  };
  values["eval_runtime"] = evaluated.seconds;
  values["eval_samples_per_second"] = per_second(evaluated.totals.groups);
  values["eval_tokens_per_second"] = per_second(evaluated.totals.tokens_logical);
  values["eval_sharing_ratio"] = evaluated.totals.sharing_ratio();
  return values;
}

}  // namespace fpdist::trainer
