#pragma once
// trainer: the whole configuration of a run as one plain struct: the sum of each room's options.

#include <cstdint>
#include <string>

#include "fpdist/comm/options.hpp"
#include "fpdist/core/types.hpp"
#include "fpdist/data/options.hpp"
#include "fpdist/loss/options.hpp"
#include "fpdist/model/options.hpp"
#include "fpdist/optim/options.hpp"
#include "fpdist/plan/options.hpp"

namespace fpdist::trainer {

struct TrainOptions {
  /// Groups in one optimizer step, over all ranks.
  int64_t groups_per_step = 64;
  int64_t max_steps = 100;
  /// Order of the data.
  uint64_t seed = 0;
  std::string output_dir = "out";
  /// Print and log every n-th step.
  int64_t logging_steps = 1;
  /// Export an HF directory checkpoint-<step> every n-th step; 0 is only at the end.
  int64_t save_steps = 0;
  /// Peak of one rank's processor in TFLOP/s, for `mfu`; 0: unknown, mfu is null.
  double peak_tflops = 0.0;
  /// Write the planned and the measured timeline of the first n steps, all ranks, as output_dir/trace-<step>.json.
  int64_t profile_steps = 0;
  /// Seconds after which a wait for another rank is a lost peer.
  int64_t comm_timeout_seconds = 600;
  /// Allow output_dir to hold an earlier run's files.
  bool overwrite_output_dir = false;
};

struct Config {
  Method method = Method::kSft;
  model::ModelOptions model;
  data::DataOptions data;
  loss::LossOptions loss;
  TrainOptions train;
  optim::OptimOptions optim;
  plan::ParallelOptions parallel;
  plan::PackOptions pack;
  comm::DeviceOptions comm;
  plan::PlanOptions plan;
};

/// Checks ranges and combinations that need no file and no rank count; throws ConfigError naming section.key and the
/// cure.
void validate(const Config& config);

}  // namespace fpdist::trainer
