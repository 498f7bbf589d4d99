#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace fpdist {
struct Key;
}
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
  /// float32 | bfloat16 | auto: dtype of exported weights, final/ and checkpoint-<step>/. auto is model.dtype; wider
  /// ones come from the optimizer's masters.
  std::string final_dtype = "auto";
  /// Peak of one rank's processor in TFLOP/s, for `mfu`; 0: unknown, mfu is null.
  double peak_tflops = 0.0;
  /// Write the planned and the measured timeline of the first n steps, all ranks, as output_dir/trace-<step>.json.
  int64_t profile_steps = 0;
  /// Seconds after which a wait for another rank, without a sign of life from any, is a lost peer.
  int64_t comm_timeout_seconds = 600;
  /// Seconds that a rank may be busy with one piece of work of its own (reading, writing, planning, starting up) while
  /// the others wait.
  int64_t slow_timeout_seconds = 7200;
  /// Allow output_dir to hold an earlier run's files: they are removed first, all others stay.
  bool overwrite_output_dir = false;

  static std::span<const Key> keys();
};

}  // namespace fpdist::trainer
