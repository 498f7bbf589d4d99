#include "src/trainer/samples/generated_evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/loss.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"

namespace fpdist::trainer {
namespace {

constexpr uint64_t kEvaluationStream = 0x65766131;  // draws that no rollout has

/// [samples] whether a completion is right.
std::vector<bool> right_ones(const Judged& judged, std::span<const std::string> names,
                             std::span<const data::Group> groups) {
  const auto check = std::find_if(names.begin(), names.end(), [](const auto& name) { return rewards::is_check(name); });
  std::vector<bool> right;
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample) {
      const size_t at = right.size();
      const double value =
          check == names.end() ? sample.reward.value_or(0) : judged.value[index(check - names.begin())][at];
      right.push_back(value >= 1);
    }
  return right;
}

/// eval_accuracy and eval_pass@k of groups of one size.
void add_shares(const std::vector<bool>& right, size_t of_prompt, std::span<const int64_t> pass_at,
                std::map<std::string, double>& metrics) {
  const auto prompts = static_cast<double>(right.size() / of_prompt);
  metrics["accuracy"] = static_cast<double>(std::count(right.begin(), right.end(), true)) /
                        static_cast<double>(std::max<size_t>(1, right.size()));
  for (const int64_t k : pass_at) {
    double sum = 0;
    for (size_t begin = 0; begin < right.size(); begin += of_prompt) {
      const auto first = right.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto count = std::count(first, first + static_cast<std::ptrdiff_t>(of_prompt), true);
      sum += rewards::pass_at(k, static_cast<int64_t>(of_prompt), count);
    }
    metrics[text("pass@", k)] = prompts > 0 ? sum / prompts : 0;
  }
}

}  // namespace

generate::SamplingOptions evaluation_sampling(const config::Config& config, const generate::SamplingOptions& rollout) {
  generate::SamplingOptions sampling = rollout;
  const generate::EvalOptions& eval = config.eval;
  sampling.num_generations = eval.num_generations, sampling.temperature = eval.temperature;
  if (eval.max_completion_length > 0) sampling.max_completion_length = eval.max_completion_length;
  sampling.seed = rollout.seed ^ kEvaluationStream;
  return sampling;
}

StepMetrics evaluate_generated(Trainer& trainer, Judge& judge, const std::vector<data::PromptRow>& prompts,
                               const generate::SamplingOptions& sampling) {
  const auto start = Clock::now();
  std::vector<std::vector<int32_t>> tokens;
  PromptRows rows;
  for (const data::PromptRow& row : prompts) tokens.push_back(row.token), rows.push_back(&row);
  std::vector<data::Group> groups = trainer.roll_out(tokens, sampling);
  const Judged judged = judge.judge(groups, rows);
  std::map<std::string, double> metrics = reward_metrics(judged, judge.names());
  double sum = 0, count = 0;
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample)
      if (sample.reward) sum += *sample.reward, ++count;
  metrics["reward"] = count > 0 ? sum / count : 0;
  add_shares(right_ones(judged, judge.names(), groups), index(sampling.num_generations),
             trainer.settled().config.eval.pass_at, metrics);
  metrics.merge(loss::completion_metrics(groups));
  const double seconds = seconds_since(start);
  metrics["runtime"] = seconds;
  metrics["samples_per_second"] = static_cast<double>(groups.size()) / std::max(seconds, 1e-9);
  StepMetrics named{.step = trainer.steps_done(), .values = {}};
  for (const auto& [name, value] : metrics) named.values["eval_" + name] = value;
  return named;
}

}  // namespace fpdist::trainer
