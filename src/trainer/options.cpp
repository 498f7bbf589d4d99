#include "fpdist/trainer/options.hpp"

#include "fpdist/core/error.hpp"
#include "src/core/key.hpp"

namespace fpdist::trainer {
namespace {

// The upper end keeps the deadline inside the clock's range.
constexpr Valid kSeconds{.values = ">= 1", .must = "1 or more, at most 100000000", .accepts = [](double x) {
                           return x >= 1 && x <= 100'000'000;
                         }};
constexpr Valid kSaveStrategies{.values = "steps | epoch | no", .check = check_one_of};
constexpr std::array<std::string_view, 3> kReporters{"jsonl", "tensorboard", "prometheus"};

void check_reporters(const Valid& valid, const Field& field, Complaints& complaints) {
  for (const std::string& name : *std::get<Texts*>(field))
    if (std::find(kReporters.begin(), kReporters.end(), name) == kReporters.end())
      complaints.push_back(text(" has '", name, "'; ", valid.must));
}

constexpr Valid kAboveOne{.values = "> 1", .must = "above 1", .accepts = [](double x) { return x > 1; }};

}  // namespace

std::span<const Key> TrainOptions::keys() {
  using Options = TrainOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(groups_per_step, "groups in one optimizer step, over all ranks", kFromOne),
      FPDIST_KEY(max_steps, "optimizer steps; 0: num_train_epochs says it, or 100 where that is 0", kFromZero),
      FPDIST_KEY(seed, "order of the data, and adapters' dropout"),
      FPDIST_KEY(output_dir, "where the run writes",
                 Valid{.must = "give the folder to write to", .check = check_filled}),
      FPDIST_KEY(logging_steps, "a line on the screen every n-th step; metrics.jsonl has all", kFromOne),
      FPDIST_KEY(num_train_epochs, "times through the data, fractions too, where max_steps is 0", kFromZero),
      FPDIST_KEY(save_strategy, "when checkpoints are written", kSaveStrategies),
      FPDIST_KEY(save_steps, "strategy steps: a checkpoint every n-th step; 0: only final/", kFromZero),
      FPDIST_KEY(save_total_limit, "checkpoints that are kept, the best among them; 0: all", kFromZero),
      FPDIST_KEY(save_only_model, "checkpoints are Hugging Face directories, from which no run goes on"),
      FPDIST_KEY(save_async, "write checkpoints beside the steps that follow"),
      FPDIST_KEY(resume_from_checkpoint, "auto (the newest whole one in output_dir), none or a folder",
                 Valid{.must = "give auto, none or a checkpoint's folder", .check = check_filled}),
      FPDIST_KEY(resume_anyway, "go on although data or settings that change results are others"),
      FPDIST_KEY(eval_steps, "evaluate every n-th step and at the end; 0: only at the end", kFromZero),
      FPDIST_KEY(eval_on_start, "evaluate ahead of the first step too"),
      FPDIST_KEY(load_best_model_at_end, "final/ holds the weights of the best evaluation"),
      FPDIST_KEY(metric_for_best_model, "the number that says which evaluation is best; empty: eval_loss"),
      FPDIST_KEY(greater_is_better, "of metric_for_best_model; auto: false for losses and perplexity",
                 Valid{.values = "auto | true | false", .check = check_one_of}),
      FPDIST_KEY(early_stopping_patience, "evaluations without a better one that end the run; 0: never", kFromZero),
      FPDIST_KEY(on_nan, "a step whose loss or gradients are not finite ends the run or is left out",
                 Valid{.values = "stop | skip", .check = check_one_of}),
      FPDIST_KEY(max_skipped, "more left out steps than these end the run", kFromZero),
      FPDIST_KEY(on_spike, "a step whose gradient norm is spike_factor times the usual is left out",
                 Valid{.values = "off | skip", .check = check_one_of}),
      FPDIST_KEY(spike_factor, "see on_spike", kAboveOne),
      FPDIST_KEY(
          report_to, "where a run's numbers go: metrics.jsonl, tensorboard/ and metrics.prom in output_dir",
          Valid{.values = "a list of jsonl, tensorboard, prometheus",
                .must = "there are jsonl (output_dir/metrics.jsonl), tensorboard (event files in "
                        "output_dir/tensorboard) and prometheus (output_dir/metrics.prom), and [] for none; other "
                        "services read TensorBoard's files: report to tensorboard and sync that folder with their "
                        "own tool",
                .check = check_reporters}),
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
