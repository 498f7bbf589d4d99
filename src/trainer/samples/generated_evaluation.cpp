#include "src/trainer/samples/generated_evaluation.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/generate/generate.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/rewards/accuracy.hpp"
#include "src/core/clock.hpp"

namespace fpdist::trainer {
namespace {

/// What was left out of the evaluated completions' prompts, where anything may be.
std::map<std::string, double> left_out(const generate::GenerationReport& report,
                                       const generate::SamplingOptions& sampling) {
  std::map<std::string, double> metrics;
  if (sampling.prefix_kv.is_on()) metrics["prefix_kv/kept_share"] = report.kept_key_share();
  if (!sampling.flex_prefill.is_on()) return metrics;
  metrics["flex_prefill/kept_share"] = report.flex.kept_share();
  if (sampling.flex_prefill.check_prompts == 0) return metrics;
  metrics["flex_prefill/logp_difference/mean"] = report.flex.mean_difference();
  metrics["flex_prefill/logp_difference/max"] = report.flex.greatest_difference;
  return metrics;
}

}  // namespace

StepMetrics evaluate_generated(Trainer& trainer, Judge& judge, const std::vector<data::PromptRow>& prompts,
                               const generate::SamplingOptions& sampling) {
  const auto start = Clock::now();
  std::vector<std::vector<int32_t>> tokens;
  PromptRows rows;
  for (const data::PromptRow& row : prompts) tokens.push_back(row.token), rows.push_back(&row);
  generate::GenerationReport report;
  judge.begin(std::move(rows));
  std::vector<data::Group> groups = trainer.roll_out(tokens, sampling, 0, &report, judge.taking());
  const Judged judged = judge.finish(groups);
  std::map<std::string, double> metrics = reward_metrics(judged, judge.names());
  double sum = 0, count = 0;
  for (const std::optional<double>& reward : judged.total)
    if (reward) sum += *reward, ++count;
  metrics["reward"] = count > 0 ? sum / count : 0;
  metrics.merge(rewards::shares_of(rewards::right_ones(judged.value, judge.names(), judged.total),
                                   sampling.num_generations, trainer.settled().config.eval.pass_at));
  metrics.merge(loss::completion_metrics(groups));
  metrics.merge(left_out(report, sampling));
  const double seconds = seconds_since(start);
  metrics["runtime"] = seconds;
  metrics["samples_per_second"] = static_cast<double>(groups.size()) / std::max(seconds, 1e-9);
  StepMetrics named{.step = trainer.steps_done(), .values = {}};
  for (const auto& [name, value] : metrics) named.values["eval_" + name] = value;
  return named;
}

}  // namespace fpdist::trainer
