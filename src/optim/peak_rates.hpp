#pragma once
// optim: optim.learning_rates, peak learning rates by pattern of weight names.

#include <span>
#include <string>
#include <vector>

#include "fpdist/optim/options.hpp"

namespace fpdist::optim {

/// A pattern fits a whole name; in it `*` stands for any characters, dots too, and `?` for any one. Of several that
/// fit a name the longest counts, and the first by its letters of those that are as long.
class PeakRates {
 public:
  /// Throws ConfigError naming the pattern whose rate is no number, 0 or more.
  explicit PeakRates(const OptimOptions& options);
  /// Throws ConfigError for a pattern that fits none of the model's weights.
  void check_all_fit(std::span<const std::string> names) const;
  double of(const std::string& name) const;

 private:
  struct Pattern {
    std::string glob;
    double rate;
  };
  std::vector<Pattern> patterns_;  ///< those that count first in front
  double otherwise_;
};

}  // namespace fpdist::optim
