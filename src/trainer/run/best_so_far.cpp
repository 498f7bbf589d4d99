#include "src/trainer/run/best_so_far.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"

namespace fpdist::trainer {
namespace {

constexpr std::string_view kPrefix = "eval_";

std::string metric_of(const TrainOptions& options) {
  const std::string& given = options.metric_for_best_model;
  if (given.empty()) return "eval_loss";
  return given.starts_with(kPrefix) ? given : std::string(kPrefix) + given;
}

bool greater_is_better(const TrainOptions& options, const std::string& metric) {
  if (options.greater_is_better != "auto") return options.greater_is_better == "true";
  return !metric.ends_with("loss") && !metric.ends_with("perplexity");
}

}  // namespace

std::string to_json(const BestEvaluation& best) {
  if (best.step == 0 && best.without_better == 0) return "{}";
  return nlohmann::ordered_json{
      {"best_step", best.step}, {"best_metric", best.metric}, {"without_better", best.without_better}}
      .dump();
}

BestEvaluation parse_best_evaluation(const std::string& json, const std::string& where) {
  try {
    const auto state = nlohmann::json::parse(json);
    if (state.empty()) return {};
    return {
        .step = state.at("best_step"), .metric = state.at("best_metric"), .without_better = state.at("without_better")};
  } catch (const nlohmann::json::exception&) {
    throw ModelFileError(text(where, ": its notes on evaluations are none: ", json));
  }
}

BestSoFar::BestSoFar(const TrainOptions& options, BestEvaluation state)
    : metric_(metric_of(options)),
      greater_is_better_(greater_is_better(options, metric_)),
      patience_(options.early_stopping_patience),
      state_(state) {}

void BestSoFar::check_names(const std::map<std::string, double>& metrics) const {
  if (metrics.contains(metric_)) return;
  std::string names;
  for (const auto& [name, value] : metrics) names += (names.empty() ? "" : ", ") + name;
  throw ConfigError(text("train.metric_for_best_model: no evaluation has ", metric_, "; choose one of ", names));
}

BestSoFar::Verdict BestSoFar::see(int64_t step, const std::map<std::string, double>& metrics) {
  check_names(metrics);
  const double now = metrics.at(metric_);
  const bool is_better = greater_is_better_ ? now > state_.metric : now < state_.metric;
  const bool is_best = state_.step == 0 ? !std::isnan(now) : is_better;
  if (is_best) state_ = {.step = step, .metric = now, .without_better = 0};
  if (!is_best) ++state_.without_better;
  return {.is_best = is_best, .stop = is_over()};
}

}  // namespace fpdist::trainer
