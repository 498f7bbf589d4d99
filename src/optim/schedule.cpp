#include "src/optim/schedule.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/key.hpp"
#include "src/optim/schedule_arguments.hpp"

namespace fpdist::optim {
namespace {

using Factor = std::function<double(double step)>;

/// What every schedule knows of its run.
struct RunSteps {
  double peak, warmup, end;

  /// Part of the steps behind the warm-up that lie before step `now`.
  double progress(double now) const { return (now - warmup) / std::max(1.0, end - warmup); }
};

Factor with_warmup(const RunSteps& run, Factor after) {
  return [warmup = run.warmup, after = std::move(after)](double now) {
    return now < warmup ? now / std::max(1.0, warmup) : after(now);
  };
}

double wave(double cycles, double progress) {
  return 0.5 * (1.0 + std::cos(std::numbers::pi * cycles * 2.0 * progress));
}

Factor constant(const RunSteps&, const ScheduleArguments&) {
  return [](double) { return 1.0; };  // it knows no warm-up
}

Factor constant_with_warmup(const RunSteps& run, const ScheduleArguments&) {
  return with_warmup(run, [](double) { return 1.0; });
}

Factor linear(const RunSteps& run, const ScheduleArguments&) {
  return with_warmup(
      run, [run](double now) { return std::max(0.0, (run.end - now) / std::max(1.0, run.end - run.warmup)); });
}

Factor cosine(const RunSteps& run, const ScheduleArguments& arguments) {
  return with_warmup(run, [run, cycles = arguments.number("num_cycles", 0.5)](double now) {
    return std::max(0.0, wave(cycles, run.progress(now)));
  });
}

Factor cosine_with_restarts(const RunSteps& run, const ScheduleArguments& arguments) {
  return with_warmup(run, [run, cycles = arguments.number("num_cycles", 1.0)](double now) {
    const double progress = run.progress(now);
    if (progress >= 1.0) return 0.0;
    return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * std::fmod(cycles * progress, 1.0))));
  });
}

Factor cosine_with_min_lr(const RunSteps& run, const ScheduleArguments& arguments) {
  const auto lowest = arguments.number("min_lr"), rate = arguments.number("min_lr_rate");
  if (lowest.has_value() == rate.has_value())
    arguments.refuse(lowest ? "both min_lr and min_lr_rate are given; keep one"
                            : "give min_lr, a learning rate, or min_lr_rate, a part of optim.learning_rate");
  if (lowest && run.peak == 0) arguments.refuse("min_lr needs an optim.learning_rate above 0; give min_lr_rate");
  const double floor = rate ? *rate : *lowest / run.peak;
  return with_warmup(run, [run, floor, cycles = arguments.number("num_cycles", 0.5)](double now) {
    return std::max(0.0, wave(cycles, run.progress(now)) * (1 - floor) + floor);
  });
}

Factor polynomial(const RunSteps& run, const ScheduleArguments& arguments) {
  const double end = arguments.number("lr_end", 1e-7), power = arguments.number("power", 1.0);
  if (!(run.peak > end))
    arguments.refuse(text("lr_end ", end, " is not below optim.learning_rate ", run.peak, ": lower it"));
  return with_warmup(run, [run, end, power](double now) {
    if (now > run.end) return end / run.peak;
    // The last step of a run that is all warm-up has nothing left of it.
    const double left = run.end > run.warmup ? 1 - (now - run.warmup) / (run.end - run.warmup) : 0.0;
    return ((run.peak - end) * std::pow(left, power) + end) / run.peak;
  });
}

Factor inverse_sqrt(const RunSteps& run, const ScheduleArguments& arguments) {
  const double scale = arguments.steps("timescale").value_or(run.warmup > 0 ? run.warmup : 10'000);
  if (scale == 0) arguments.refuse("timescale is 0; it must be 1 or more");
  return with_warmup(
      run, [shift = scale - run.warmup, scale](double now) { return 1.0 / std::sqrt((now + shift) / scale); });
}

constexpr std::array<std::string_view, 3> kShapes{"linear", "cosine", "1-sqrt"};

double rise(std::string_view shape, double progress) {
  if (shape == "linear") return progress;
  if (shape == "cosine") return 0.5 * (1.0 - std::cos(std::numbers::pi * progress));
  return 1.0 - std::sqrt(1.0 - progress);
}

double fall(std::string_view shape, double progress, double cycles) {
  if (shape == "linear") return 1.0 - progress;
  if (shape == "cosine") return wave(cycles, progress);
  return 1.0 - std::sqrt(progress);
}

Factor warmup_stable_decay(const RunSteps& run, const ScheduleArguments& arguments) {
  const auto decay = arguments.steps("num_decay_steps");
  if (!decay) arguments.refuse("num_decay_steps is missing: the steps at the end in which the rate falls");
  const double decays_at = run.warmup + arguments.steps("num_stable_steps").value_or(run.end - run.warmup - *decay);
  const std::string up(arguments.word("warmup_type", kShapes, "linear"));
  const std::string down(arguments.word("decay_type", kShapes, "cosine"));
  const double lowest = arguments.number("min_lr_ratio", 0.0), cycles = arguments.number("num_cycles", 0.5);
  return [=](double now) {
    const auto above = [&](double part) { return std::max(0.0, part * (1.0 - lowest) + lowest); };
    if (now < run.warmup) return above(rise(up, now / std::max(1.0, run.warmup)));
    if (now < decays_at) return 1.0;
    if (now < decays_at + *decay) return above(fall(down, (now - decays_at) / std::max(1.0, *decay), cycles));
    return lowest;
  };
}

struct ScheduleType {
  std::string_view name;
  std::vector<std::string_view> arguments;
  Factor (*make)(const RunSteps&, const ScheduleArguments&);
};

const std::vector<ScheduleType>& types() {
  static const std::vector<ScheduleType> all{
      {"linear", {}, linear},
      {"cosine", {"num_cycles"}, cosine},
      {"constant", {}, constant},
      {"constant_with_warmup", {}, constant_with_warmup},
      {"cosine_with_restarts", {"num_cycles"}, cosine_with_restarts},
      {"cosine_with_min_lr", {"min_lr", "min_lr_rate", "num_cycles"}, cosine_with_min_lr},
      {"polynomial", {"lr_end", "power"}, polynomial},
      {"inverse_sqrt", {"timescale"}, inverse_sqrt},
      {"warmup_stable_decay",
       {"num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"},
       warmup_stable_decay}};
  return all;
}

const ScheduleType& type_of(const OptimOptions& options) {
  const auto found = std::find_if(types().begin(), types().end(),
                                  [&](const ScheduleType& type) { return type.name == options.lr_scheduler_type; });
  if (found != types().end()) return *found;
  std::vector<std::string_view> names;
  for (const ScheduleType& type : types()) names.push_back(type.name);
  throw ConfigError(text("optim.lr_scheduler_type: \"", options.lr_scheduler_type, "\" is unknown; choose ",
                         joined(names, ", ", " or ")));
}

}  // namespace

int64_t warmup_steps(const OptimOptions& options, int64_t max_steps) {
  if (options.warmup_steps > 0) return options.warmup_steps;
  return static_cast<int64_t>(std::ceil(static_cast<double>(max_steps) * options.warmup_ratio));
}

RateSchedule::RateSchedule(const OptimOptions& options, int64_t max_steps) {
  const ScheduleType& type = type_of(options);
  const RunSteps run{.peak = options.learning_rate,
                     .warmup = static_cast<double>(warmup_steps(options, max_steps)),
                     .end = static_cast<double>(max_steps)};
  factor_ = type.make(run, ScheduleArguments(options, type.name, type.arguments));
}

}  // namespace fpdist::optim
