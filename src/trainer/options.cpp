#include "fpdist/trainer/options.hpp"

#include "src/core/key.hpp"

namespace fpdist::trainer {
namespace {

// The upper end keeps the deadline inside the clock's range.
constexpr Valid kSeconds{.values = ">= 1", .must = "1 or more, at most 100000000", .accepts = [](double x) {
                           return x >= 1 && x <= 100'000'000;
                         }};

}  // namespace

std::span<const Key> TrainOptions::keys() {
  using Options = TrainOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(groups_per_step, "groups in one optimizer step, over all ranks", kFromOne),
      FPDIST_KEY(max_steps, "optimizer steps", kFromOne),
      FPDIST_KEY(seed, "order of the data"),
      FPDIST_KEY(output_dir, "where the run writes",
                 Valid{.must = "give the folder to write to", .check = check_filled}),
      FPDIST_KEY(logging_steps, "print and log every n-th step", kFromOne),
      FPDIST_KEY(save_steps, "export the model every n-th step; 0: only at the end", kFromZero),
      FPDIST_KEY(final_dtype,
                 "dtype of exported weights; auto: model.dtype, which drops a bfloat16 run's small updates",
                 Valid{.values = "auto | float32 | bfloat16", .check = check_one_of}),
      FPDIST_KEY(profile_steps, "write planned and measured timelines of the first n steps as trace-<step>.json",
                 kFromZero),
      FPDIST_KEY(peak_tflops, "peak of one rank's processor, for mfu; 0: unknown", kFromZero),
      FPDIST_KEY(comm_timeout_seconds, "a longer wait for another rank, without a sign of life, is a lost rank",
                 kSeconds),
      FPDIST_KEY(slow_timeout_seconds,
                 "the longest that a rank may read, write, plan or start up in one piece while others wait", kSeconds),
      FPDIST_KEY(overwrite_output_dir, "allow output_dir to hold an earlier run's files: they are removed first")};
  return kKeys;
}

}  // namespace fpdist::trainer
