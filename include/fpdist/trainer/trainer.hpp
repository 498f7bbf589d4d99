#pragma once
// trainer: one optimizer step after another. Trainer::step is the whole system in one screen: plan -> execute -> learn
// -> report. Trainer::train is a loop over data of its own, written with nothing but what stands here: a loop that
// makes its samples as it goes is written the same way.

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/generate/options.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/ops/parameter.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "fpdist/rewards/rewards.hpp"
#include "fpdist/trainer/run_progress.hpp"

namespace fpdist::generate {
struct GenerationReport;
}
namespace fpdist::trainer {

using config::Config;

/// One step's line of metrics.jsonl, on every rank the same.
struct StepMetrics {
  int64_t step = 0;                      ///< 1-based
  std::map<std::string, double> values;  ///< TRL's names plus tokens_logical, tokens_computed, sharing_ratio, ...
};

/// How a training state is saved.
struct SaveState {
  std::string notes = "{}";  ///< a JSON object of the caller's own, which load_state gives back: where its loop stands
  /// Copy the state and write it beside the steps that follow, whose first update waits for the copy: advance_save
  /// between them, finish_save behind the last.
  bool beside_steps = false;
  /// Called when all is written but the checkpoint is not there yet, on rank 0, on a thread of its own: to sync what
  /// must not be older than it. A DiskError ends the save.
  std::function<void()> committing = {};
  /// Called when the checkpoint is there, on rank 0, on a thread of its own: to remove older ones. What it uses is
  /// there for as long as the Trainer.
  std::function<void()> saved = {};
};

/// What saving a training state has taken on a rank: its threads, and while no step could go on.
struct SaveSeconds {
  double written = 0, waited = 0;
};

/// Told of one prompt's completions.
using RolledOut = std::function<void(size_t prompt, const data::Group& group)>;

/// How a run ended: all its steps done, or asked to stop, with a checkpoint to go on from.
enum class RunEnd { kDone, kStopped };

class Trainer {
 public:
  /// Collective over the world. Loads the model (and the reference), shards the optimizer. Both references must outlive
  /// it. `device`: where to compute; null: what model.device says.
  Trainer(comm::World& world, Config config, LogSink& log, std::unique_ptr<comm::Device> device = nullptr);
  ~Trainer();

  /// Replaces the configured method's loss by your own, which sees what that one needs (loss::Needs); same calls on
  /// every rank.
  void set_loss(loss::LossFunction loss);
  /// Called after every step of train() on every rank. It may be slow on some (comm::SlowWork).
  void set_hook(std::function<void(const StepMetrics&)> hook);
  /// Called by train() on rank 0 before the first step, after every step and whenever something else begins. With it
  /// the lines of progress go to the log's file alone: whoever is called shows how far the run is.
  void set_progress(std::function<void(const RunProgress&)> progress);
  /// Ahead of the first step, the same on every rank: steps of the whole run, which the learning rate follows, in the
  /// place of train.max_steps. Throws ConfigError for less than one.
  void set_max_steps(int64_t max_steps);
  /// From now on step() writes into this folder, which must be there: costs.yaml whenever it has measured costs,
  /// trace-N.json, .planned.json and .txt of the first train.profile_steps steps, and step-N.plan.json, .yaml,
  /// .costs.yaml and .rows.jsonl of a step that updated nothing. Throws ConfigError where one of them
  /// is an input.
  void set_output_dir(std::string directory);

  /// Collective. One optimizer step on these groups: the same groups in the same order on every rank. `log` hears what
  /// happens on the way; without it the trainer's own does.
  /// Throws DataError naming group and field where they differ on the ranks or are no samples of this model and loss
  /// (lengths that do not match, ids outside the vocabulary, pairs that are none). Where loss or gradients are not
  /// finite, or the gradient norm is a spike, nothing is updated: NumericsError, naming step, rank, pack, samples and
  /// the first layer that is not finite, or with train.on_nan and train.on_spike a step that is left out
  /// (skipped_steps).
  StepMetrics step(std::span<const data::Group> groups, LogSink& log);
  StepMetrics step(std::span<const data::Group> groups) { return step(groups, log()); }
  /// Not collective. The next step's groups are known while this one's are still to be stepped on: call it on every
  /// rank ahead of step() with those of the step after it, whose plan and tensors are then made beside that step, on
  /// threads of their own. The later step() must be given the elements of this very vector.
  void plan_ahead(std::shared_ptr<const std::vector<data::Group>> groups);
  /// Collective. The loss and the metrics of all these groups together, forward only: the same groups in the same order
  /// on every rank, planned and packed as steps are, train.groups_per_step at a time. TRL's names with eval_ in front
  /// (eval_loss, eval_rewards/accuracies, ..., eval_runtime, eval_samples_per_second, eval_tokens_per_second), and
  /// eval_perplexity of sft; without groups every name is there. `step`: steps done so far. The weights, gradients,
  /// metrics and plans of the steps around it are what they would be without it. Throws DataError as step() does.
  StepMetrics evaluate(std::span<const data::Group> groups);
  /// Collective, ahead of the first step. `groups` are all that will be stepped on, `evaluated` all that will be
  /// evaluated: where every sample brings the reference's log-probs, or where loss.precompute_ref_log_probs asks to
  /// compute them once and store them here, the frozen model is dropped.
  void prepare_reference(std::span<data::Group> groups, std::span<data::Group> evaluated, LogSink& log);
  void prepare_reference(std::span<data::Group> groups, LogSink& log) { prepare_reference(groups, {}, log); }
  /// Collective over the world. For loops in which every rank makes samples of its own: all ranks' groups, in rank
  /// order, on every rank, ready for step(). Ids are given anew, 0, 1, ... in that order. A rank may give none; ranks
  /// that work on the same rollouts (tp, cp and pp ranks of one engine) give them once, not each. A rank whose samples
  /// take longer than the others wait makes them inside comm::SlowWork.
  std::vector<data::Group> gather_groups(std::span<const data::Group> own) const;
  /// Collective. Completions of these prompts by the weights as they are now: the same prompts on every rank, the same
  /// groups on every rank, one a prompt, in order, with options.num_generations samples each; what is missing is their
  /// rewards. Prompts are dealt to those who hold the model, alone or in parts (pp, tp), and who has one changes no
  /// token. `first_prompt`: the number of the first, counted over all calls of a run: a prompt that comes again under
  /// another number gets other draws. old_logp is there where options.temperature is rollout.temperature, which is the
  /// loss's. truncated: a completion that found no stop token. `report`: of all who generate together, the largest
  /// kv_gib of a rank, blocks and keys of all ranks' layers and heads. `finished`: told on the rank's own thread of
  /// each prompt's group when its last completion is there, while others go on being decoded; each on one of the ranks.
  /// Throws what generate::generate throws, and ConfigError for ranks that differ.
  std::vector<data::Group> roll_out(std::span<const std::vector<int32_t>> prompts,
                                    const generate::SamplingOptions& options, uint64_t first_prompt = 0,
                                    generate::GenerationReport* report = nullptr, const RolledOut& finished = {});
  /// Collective. Throws what roll_out would of these, and makes none.
  void check_rollouts(std::span<const std::vector<int32_t>> prompts, const generate::SamplingOptions& options) const;
  /// Collective. Fills in old_logp of every sample by the weights as they are now, at the loss's temperature: what
  /// later steps' ratios on these samples compare with.
  void compute_old_logps(std::span<data::Group> groups);
  /// Ahead of train(), the same on every rank: where the run makes its rollouts (rollout.prompts), their completions
  /// are judged by this function as well, behind those of the configuration; its metrics are rewards/NAME/mean and std.
  /// Each rank calls it with completions of its own, as they come, on a thread beside the one
  /// that decodes others: several times a round, one call after the other.
  void set_reward(const std::string& name, rewards::RewardFunction reward, double weight = 1.0);
  /// Collective. Reads the data, or makes them where rollout.prompts says so, trains max_steps steps (or
  /// num_train_epochs of the data), writes config.resolved.yaml (from which as many ranks repeat the run),
  /// metrics.jsonl, logs, checkpoints and final/ into output_dir; goes on from a checkpoint as
  /// train.resume_from_checkpoint says. An evaluation of an earlier process is not repeated.
  RunEnd train();
  /// Asked after every step of train(), on every rank's own thread; must not throw. Where one rank's says true, all
  /// save a checkpoint of this step, and train() returns kStopped.
  void set_stop(std::function<bool()> asked);
  /// Collective. Writes the weights as a Hugging Face directory, in train.final_dtype. `log` hears, on every rank
  /// alike, where a bfloat16 export drops most of what training did, and of a pad token that a reward model had to be
  /// given. Where weights wider than the model's are asked for, the last step's gradients are gone afterwards.
  void save(const std::string& directory, LogSink& log);
  void save(const std::string& directory) { save(directory, log()); }

  /// Collective. Writes all from which training goes on to the last bit, on any mesh, as the folder `directory`
  /// (checkpoint-<step>; src/checkpoint/state/training_state.hpp says what is in it), whole or not at all. A save that
  /// is under way is finished first. Throws DiskError, on every rank the same, and then leaves what was there before;
  /// ConfigError where it would write over an input.
  void save_state(const std::string& directory, SaveState options = {});
  /// Collective, between steps, while a save is under way (which all ranks know alike): goes on with it as far as its
  /// threads have come, without waiting, for one exchange of 4 bytes. Throws as save_state does.
  void advance_save();
  /// Collective. Returns when nothing is under way any more. Throws as save_state does.
  void finish_save();
  bool is_saving() const;
  /// "writing out/checkpoint-20"; "" where nothing is under way.
  std::string doing() const;
  /// Of the newest training state that is saved; this rank's.
  SaveSeconds save_seconds() const;
  /// Collective. What is wrong with a checkpoint's files, the same on every rank; "" where they are whole: together the
  /// ranks read each byte once, and hold it against the manifest.
  std::string fault_of_state(const std::string& directory);
  /// Collective, between steps; trusts what fault_of_state looks at. Weights, optimizer, counters and the planner's
  /// costs as they were when it was saved, by whatever ranks; returns the notes. The reference stays what it is: the
  /// model as it was read. `log` hears what else is other than it was: the mesh, libraries. Throws ModelFileError for a
  /// checkpoint of another model or a newer format, ConfigError naming settings that change results and are others,
  /// unless train.resume_anyway.
  std::string load_state(const std::string& directory, LogSink& log);
  std::string load_state(const std::string& directory) { return load_state(directory, log()); }
  /// Since the run's beginning, those of other processes that were gone on from among them.
  int64_t steps_done() const;

  /// Inputs are the files that the config names or that lie in a directory that it names; train() and save() never
  /// write over one, whatever a path is called. These are inputs too: those that the caller reads, such as its config
  /// file.
  void add_inputs(std::span<const std::string> files);
  /// "data.path rows.jsonl" where `path` is that file, by any spelling, link, mount or second name; "" where it is no
  /// input.
  std::string input_at(const std::string& path) const;

  /// Collective, for inspection and tests: every whole weight, or the last step's whole clipped gradient, by Hugging
  /// Face name on rank 0; nothing on the others. Holds the whole model in memory.
  std::map<std::string, at::Tensor> gather_weights();
  std::map<std::string, at::Tensor> gather_gradients();
  /// This rank's slices of the policy's weights and main grads. Not collective. After a step weights may still be on
  /// their way between the ranks: this call and the result's value() wait for them, a Parameter's value that was kept
  /// over a step does not.
  ops::FlatParameters& parameters();

  /// What it was made of, and what that has come to.
  const config::Settled& settled() const;
  comm::World& world() const;
  const comm::Mesh& mesh() const;
  comm::Device& device() const;
  LogSink& log() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::function<void(const StepMetrics&)> hook_;
  std::function<void(const RunProgress&)> progress_;
  std::function<bool()> stop_;
  std::vector<rewards::NamedReward> rewards_;
};

}  // namespace fpdist::trainer
