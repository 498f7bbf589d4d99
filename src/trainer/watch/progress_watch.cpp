#include "src/trainer/watch/progress_watch.hpp"

#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::trainer {

void MovingAverage::add(double value) {
  if (!std::isfinite(value)) return;
  sum_ = kKeep * sum_ + (1 - kKeep) * value;
  weight_ = kKeep * weight_ + (1 - kKeep);
}

double MovingAverage::value() const { return weight_ > 0 ? sum_ / weight_ : RunProgress::kUnknown; }

ProgressWatch::ProgressWatch(int64_t steps_done, int64_t max_steps, const loss::Shown& shown)
    : steps_done_(steps_done), shown_(shown) {
  progress_.step = steps_done, progress_.max_steps = max_steps;
}

const RunProgress& ProgressWatch::after_step(const StepMetrics& metrics, double elapsed_seconds) {
  const auto value = [&](const std::string& name) {
    const auto found = metrics.values.find(name);
    return found == metrics.values.end() ? RunProgress::kUnknown : found->second;
  };
  loss_.add(value("loss"));
  tokens_.add(value("tokens_per_second"));
  progress_.step = metrics.step;
  progress_.loss = loss_.value(), progress_.tokens_per_second = tokens_.value();
  progress_.sharing_ratio = value("sharing_ratio");
  const double shown = value(std::string(shown_.metric));
  progress_.shown = shown_.label.empty() || std::isnan(shown) ? "" : text(shown_.label, number(" %.3f", shown));
  const double a_step = elapsed_seconds / static_cast<double>(metrics.step - steps_done_);
  progress_.seconds_left = a_step * static_cast<double>(progress_.max_steps - metrics.step);
  return in_phase("", elapsed_seconds);
}

const RunProgress& ProgressWatch::in_phase(const std::string& phase, double elapsed_seconds) {
  progress_.phase = phase, progress_.elapsed_seconds = elapsed_seconds;
  return progress_;
}

}  // namespace fpdist::trainer
