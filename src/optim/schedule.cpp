#include "src/optim/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "fpdist/core/error.hpp"

namespace fpdist::optim {

double learning_rate(const OptimOptions& options, int64_t step, int64_t max_steps) {
  const std::string& type = options.lr_scheduler_type;
  check<ConfigError>(type == "linear" || type == "cosine" || type == "constant" || type == "constant_with_warmup",
                     "optim.lr_scheduler_type: \"", type,
                     "\" is unknown; choose linear, cosine, constant or constant_with_warmup");
  const double peak = options.learning_rate;
  const auto now = static_cast<double>(step), warmup = static_cast<double>(options.warmup_steps);
  if (type == "constant") return peak;  // Transformers' constant knows no warm-up
  if (now < warmup) return peak * (now / std::max(1.0, warmup));
  if (type == "constant_with_warmup") return peak;
  const auto end = static_cast<double>(max_steps);
  const double after_warmup = std::max(1.0, end - warmup);
  if (type == "linear") return peak * std::max(0.0, (end - now) / after_warmup);
  const double progress = (now - warmup) / after_warmup;
  return peak * std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

}  // namespace fpdist::optim
