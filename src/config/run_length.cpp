#include "src/config/run_length.hpp"

#include <cmath>

namespace fpdist::config {

int64_t steps_of(const trainer::TrainOptions& options, int64_t steps_per_epoch) {
  if (options.max_steps > 0) return options.max_steps;
  return static_cast<int64_t>(std::ceil(options.num_train_epochs * static_cast<double>(steps_per_epoch)));
}

}  // namespace fpdist::config
