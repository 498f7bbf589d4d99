#include "fpdist/data/prefix_lengths.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <sstream>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/mix.hpp"
#include "src/core/names.hpp"

namespace fpdist::data {
namespace {

constexpr uint64_t kShareStream = uint64_t{0x5AA7E} << 32;

bool is_share(double value) { return value >= 0 && value <= 1; }

/// Gamma(shape, 1): Marsaglia and Tsang, "A simple method for generating gamma variables" (2000).
double gamma(double shape, Rng& rng) {
  if (shape < 1) {
    const double larger = gamma(shape + 1, rng);
    return larger * std::pow(1.0 - rng.uniform(), 1 / shape);
  }
  const double d = shape - 1.0 / 3.0, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = rng.normal(), root = 1 + c * x, v = root * root * root;
    const double u = 1.0 - rng.uniform();
    if (v > 0 && std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

void check_schedule(const ShareSchedule& bound, const std::string& name) {
  fpdist::check<ConfigError>(is_share(bound.first) && is_share(bound.last) && is_share(bound.delay_value), name,
                             ": shares of a demonstration go from 0 to 1");
  fpdist::check<ConfigError>(bound.steps >= 1, name, ".steps is ", bound.steps, ": use 1 or more");
  fpdist::check<ConfigError>(bound.warmup_steps >= 0 && bound.delay_steps >= 0, name,
                             ": warmup_steps and delay_steps are 0 or more");
}

}  // namespace

ShareSchedule parse_schedule(const std::string& what, const std::string& words) {
  std::vector<std::string> parts;
  std::istringstream list(words);
  for (std::string part; std::getline(list, part, ',');) parts.push_back(part);
  fpdist::check<ConfigError>(parts.size() >= 2 && parts.size() <= 7, what, " is ", words,
                             ": write DECAY,FIRST[,LAST[,STEPS[,WARMUP_STEPS[,DELAY_STEPS[,DELAY_VALUE]]]]]");
  ShareSchedule schedule{.decay = find_value(kDecays, what, parts[0])};
  const auto number = [&](size_t part, auto& field) {
    if (part >= parts.size()) return;
    std::istringstream text_of(parts[part]);
    fpdist::check<ConfigError>(static_cast<bool>(text_of >> field) && text_of.peek() == EOF, what, " has ", parts[part],
                               " where a number is wanted");
  };
  number(1, schedule.first), number(2, schedule.last), number(3, schedule.steps), number(4, schedule.warmup_steps);
  number(5, schedule.delay_steps), number(6, schedule.delay_value);
  return schedule;
}

double ShareSchedule::at(int64_t step) const {
  if (step < delay_steps) return delay_value;
  step -= delay_steps;
  if (step < warmup_steps) return first * static_cast<double>(step) / static_cast<double>(warmup_steps);
  if (decay == Decay::kConst) return first;
  const int64_t behind = step - warmup_steps;
  if (behind >= steps) return last;
  const double part = static_cast<double>(behind) / static_cast<double>(steps);
  const double left = decay == Decay::kLinear ? 1 - part : 0.5 * (1 + std::cos(std::numbers::pi * part));
  return last + left * (first - last);
}

void PrefixLengths::check(const std::string& keys) const {
  check_schedule(low, keys + "low"), check_schedule(high, keys + "high");
  fpdist::check<ConfigError>(alpha > 0 && beta > 0 && std::isfinite(alpha + beta), keys, "alpha and beta are ", alpha,
                             " and ", beta, ": a Beta distribution's are finite and above 0");
  fpdist::check<ConfigError>(min_tokens >= 0, keys, "min_tokens is ", min_tokens, ": use 0 or more");
}

double PrefixLengths::share(uint64_t seed, int64_t step, uint64_t id) const {
  Rng rng(seed, kShareStream ^ mixed(static_cast<uint64_t>(step) * kGolden + mixed(id)));
  double drawn = 0;
  if (alpha == 1 && beta == 1) {
    drawn = rng.uniform();
  } else {
    const double a = gamma(alpha, rng), b = gamma(beta, rng);
    drawn = a + b > 0 ? a / (a + b) : 0.5;
  }
  const double one = low.at(step), other = high.at(step);
  return std::min(one, other) + std::abs(one - other) * drawn;
}

int64_t PrefixLengths::length(uint64_t seed, int64_t step, uint64_t id, int64_t tokens) const {
  const auto drawn = static_cast<int64_t>(std::floor(share(seed, step, id) * static_cast<double>(tokens)));
  return std::max(std::min(std::max(drawn, min_tokens), tokens - 1), int64_t{0});
}

}  // namespace fpdist::data
