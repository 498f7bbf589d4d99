#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fpdist {
struct Key;
}
namespace fpdist::trainer {

struct TrainOptions {
  /// Groups in one optimizer step, over all ranks.
  int64_t groups_per_step = 64;
  /// Optimizer steps; 0: num_train_epochs says how long the run is, and where that is 0 too, 100.
  int64_t max_steps = 0;
  /// Times that the data is gone through, 1.5 for one and a half, where max_steps is 0.
  double num_train_epochs = 0.0;
  /// Order of the data.
  uint64_t seed = 0;
  std::string output_dir = "out";
  /// Print and log every n-th step.
  int64_t logging_steps = 1;
  /// steps | epoch | no: when checkpoint-<step>/ is written.
  std::string save_strategy = "steps";
  /// With steps: every n-th; 0 is only at the end.
  int64_t save_steps = 0;
  /// Checkpoints that are kept, the newest and the best; 0: all.
  int64_t save_total_limit = 0;
  /// checkpoint-<step>/ is a Hugging Face directory, from which no run can go on.
  bool save_only_model = false;
  /// Write beside the steps that follow; false: they wait.
  bool save_async = true;
  /// auto (the newest whole one in output_dir, none where there is none) | none | a checkpoint's folder.
  std::string resume_from_checkpoint = "none";
  /// Go on even where data or settings that change results are not those of the checkpoint.
  bool resume_anyway = false;
  /// Evaluate every n-th step and at the end; 0: only at the end. Without data to evaluate on: never.
  int64_t eval_steps = 0;
  /// Evaluate ahead of the first step too, of a run that begins.
  bool eval_on_start = false;
  /// At the end the weights of the best evaluation are loaded; final/ holds them.
  bool load_best_model_at_end = false;
  /// The evaluation's number that says which is best; empty: eval_loss.
  std::string metric_for_best_model = {};
  /// auto | true | false: auto is false for losses and perplexity.
  std::string greater_is_better = "auto";
  /// Evaluations without a better one after which the run ends; 0: never.
  int64_t early_stopping_patience = 0;
  /// stop | skip: what becomes of a step whose loss or gradients are not finite.
  std::string on_nan = "stop";
  /// Steps that on_nan and on_spike may leave out in one run.
  int64_t max_skipped = 10;
  /// off | skip: what becomes of a step whose gradient norm is spike_factor times the usual one.
  std::string on_spike = "off";
  double spike_factor = 10.0;
  /// jsonl | tensorboard | prometheus.
  std::vector<std::string> report_to = {"jsonl"};
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
