// The trainer, and the walk through its files. Who writes what; each folder includes those above it only:
//
//   agreement/      Whether all ranks hold the same: same_job (build, options, model files, costs), same_groups.
//   job             Job: what the job is. Made once, written by nobody but for the run's length.
//   weights/        Weights: everything that trains. load_model fills it (load_adapter where a run goes on from one),
//   whole_weights reads it out; rounding
//                   says what an export in fewer bits loses, pad_token what an exported reward model may be padded
//                   with.
//   planning/       StepPlanner: costs and the plans made with them, ahead of time (planned_step) and held against the
//                   clock afterwards (plan_watch, calibrate).
//   report/         StepRecord: a step that has run; step_report turns one into names and numbers, timelines into a
//                   drawing; evaluation_report the same of an evaluation. It owns nothing but what the axes had
//                   carried before.
//   step/           One step: check_groups looks at what a caller brings, objective says which loss and what it needs,
//                   reference holds the frozen model, step_view what a loss takes down of the whole
//                   step ahead of it, packs makes tensors of a plan's packs, pack_run is what the
//                   executor calls for each op, pack_losses its end at the loss, step_results what is read back from
//                   the device, find_fault where it is not finite, step_guard what becomes of the run then, step_files
//                   what is written down of it; execute_step runs it all, evaluate the forward alone. Nothing of it
//                   outlives the step but objective and reference.
//   saving/         StateSaver writes training states beside the steps; trainer_state is what of them is no tensor,
//                   settings and libraries say what has changed since. weights/weight_state: the tensors of it.
//   trainer         Trainer: holds the above; a step, in one screen, below. gather_groups: samples of all ranks;
//                   roll_out: samples by the model itself.
//   samples/        RunData, what a run's steps are made of: file_data reads it, rollout_data makes it (judge: rewards
//                   of completions; hybrid_rollouts: behind demonstrations; round: one generation's groups;
//                   generated_evaluation). Uses Trainer as anybody can.
//   run/            Trainer::train: a loop over such data with files around it; the same.

#include "fpdist/trainer/trainer.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

#include <optional>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/config/computed_groups.hpp"
#include "src/config/inputs.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/trainer/gather_groups.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/planning/step_planner.hpp"
#include "src/trainer/report/step_report.hpp"
#include "src/trainer/report/timelines.hpp"
#include "src/trainer/roll_out.hpp"
#include "src/trainer/saving/checkpoint_folder.hpp"
#include "src/trainer/saving/libraries.hpp"
#include "src/trainer/saving/settings.hpp"
#include "src/trainer/saving/state_saver.hpp"
#include "src/trainer/saving/trainer_state.hpp"
#include "src/trainer/step/check_groups.hpp"
#include "src/trainer/step/evaluate.hpp"
#include "src/trainer/step/execute_step.hpp"
#include "src/trainer/step/packs.hpp"
#include "src/trainer/step/step_files.hpp"
#include "src/trainer/step/step_guard.hpp"
#include "src/trainer/step/step_parts.hpp"
#include "src/trainer/step/verify.hpp"
#include "src/trainer/weights/pad_token.hpp"
#include "src/trainer/weights/rounding.hpp"
#include "src/trainer/weights/weight_state.hpp"
#include "src/trainer/weights/whole_weights.hpp"

namespace fpdist::trainer {
namespace {

/// Packs of a step ahead, on their way to the device.
void lay_out(PlannedStep& planned, const Job& job) {
  planned.packs = std::make_shared<Packs>(job, planned.groups.all, planned.plan, planned.shares_prefix);
  planned.uploads = job.device->run_ahead([&] { planned.packs->make_all(); });
}

Reference make_reference(const Job& job, const loss::Needs& needs, const Weights& weights) {
  if (!needs.reference) return Reference();
  // A new adapter's reference is the model without it, that of one gone on from is the adapter as it was, as in TRL.
  const bool keeps_adapter = !job.config.adapter.path.empty();
  return Reference(job.config.model.ref_path.empty() ? frozen_copy(weights.runs(), keeps_adapter)
                                                     : load_reference(job));
}

ReportFacts facts_of(const Job& job) {
  return {.mesh = job.mesh.shape(),
          .model = job.model.shape(),
          .peak_tflops = job.config.train.peak_tflops,
          .passes = job.model.adapter.is_there() ? 2 : 3};
}

}  // namespace

struct Trainer::Impl {
  Impl(comm::World& world, Config config, LogSink& log, std::unique_ptr<comm::Device> device)
      : inputs(config::inputs_of(config)),
        job(world, std::move(config), log, std::move(device)),
        objective(job.config, config::virtual_tokens(job.settled)),
        planner(job, {.prepare =
                          [this](auto groups, int64_t step) {
                            check_groups(groups, job.model, objective.shape(), objective.needs());
                            return objective.prepare(groups, step);
                          },
                      .lay_out = [this](PlannedStep& planned) { lay_out(planned, job); }}),
        weights(job),
        reference(make_reference(job, objective.needs(), weights)) {
    if (job.config.train.max_steps > 0) set_max_steps(job.config.train.max_steps);
    if (weights.head() == Head::kScore) scored.emplace(job.model.vocab_size);
  }

  TrainerState state(std::string notes);
  void go_on_from(const TrainerState& state);
  void set_max_steps(int64_t steps) {
    job.settled.config.train.max_steps = steps;
    schedule.emplace(job.config.optim, steps);
  }
  StepParts parts() {
    return {.job = job,
            .weights = weights,
            .objective = objective,
            .reference = reference,
            .schedule = schedule ? &*schedule : nullptr,
            .guard = &guard};
  }

  void end_step(const StepRecord& record, std::span<const data::Group> groups, LogSink& log);

  files::Inputs inputs;  // as they are when the trainer is made
  Job job;
  Objective objective;
  StepPlanner planner;
  Weights weights;
  Reference reference;
  std::optional<SeenTokens> scored;             // of all steps, where samples are scored
  std::optional<optim::RateSchedule> schedule;  // once the run's length is known
  StepGuard guard{job.config.train};
  TrafficMeter traffic;
  int64_t steps_done = 0, tokens_seen = 0;
  std::string output_dir;  // "": step() writes nothing
  StateSaver saver{job, weights};
};

TrainerState Trainer::Impl::state(std::string notes) {
  at::Tensor updates = at::full({1}, weights.updates(), at::kLong);  // a rank without weights counts none
  job.world.communicator().all_reduce(updates, comm::ReduceOp::kMax);
  return {.step = steps_done,
          .updates = updates.item<int64_t>(),
          .tokens_seen = tokens_seen,
          .mesh = job.mesh.shape(),
          .libraries = library_versions(),
          .settings = settings_of(job.config),
          .planner = planner.state(),
          .guard = guard.state(),
          .seen_tokens = scored ? scored->to_text() : "",
          .notes = std::move(notes)};
}

void Trainer::Impl::go_on_from(const TrainerState& state) {
  steps_done = state.step, tokens_seen = state.tokens_seen;
  guard = StepGuard(job.config.train, state.guard);
  const auto costs = state.settings.find("plan.costs");
  planner.go_on_from(state.planner, costs != state.settings.end() &&
                                        costs->second == settings_of(job.config, "plan.").at("plan.costs"));
  traffic.since_last(job.mesh);  // what loading has sent is no step's
}

StepMetrics Trainer::step(std::span<const data::Group> groups, LogSink& log) {
  const auto start = Clock::now();
  Impl& t = *impl_;
  const Config& config = t.job.config;
  check<ConfigError>(t.schedule.has_value(),
                     "train.max_steps is 0 and the run's length not known: a loop of one's own ",
                     "gives it, or calls set_max_steps() (train.num_train_epochs counts in train() alone)");
  const PlannedStep planned = t.planner.take(groups, t.steps_done + 1);
  if (t.steps_done < config.pack.verify_steps && config.pack.share_prefix)
    verify_step(t.parts(), t.planner, planned, log);

  StepRecord record = execute_step(t.parts(), planned);
  if (t.scored) t.scored->see(groups);
  t.end_step(record, groups, log);
  ++t.steps_done;
  t.tokens_seen += planned.plan.totals.tokens_logical;
  record.seconds = seconds_since(start);
  record.traffic = t.traffic.since_last(t.job.mesh);
  const RankSums sums = add_up(record, t.job.mesh);

  if (!t.output_dir.empty() && t.steps_done <= config.train.profile_steps)
    write_timelines(record, t.job, text(t.output_dir, "/trace-", t.steps_done));
  t.planner.learn(planned, record.ops, record.times, sums.measured_seconds, log);
  StepMetrics metrics{.step = t.steps_done, .values = report_step(record, sums, t.tokens_seen, facts_of(t.job))};
  metrics.values["skipped_steps"] = static_cast<double>(t.guard.state().skipped);
  return metrics;
}

/// A step that has updated nothing ends the run or is left out.
void Trainer::Impl::end_step(const StepRecord& record, std::span<const data::Group> groups, LogSink& log) {
  if (record.end == StepEnd::kUpdated) return guard.updated(record.grad_norm);
  const PlannedStep& planned = record.planned;
  const std::string what =
      record.end == StepEnd::kNotFinite
          ? record.fault
          : text(planned.name, ": the gradient norm is ", record.grad_norm, ", more than train.spike_factor ",
                 job.config.train.spike_factor, " times the usual ", guard.most_norm() / job.config.train.spike_factor);
  const bool goes_on = guard.leave_out(record.end);
  const std::string seen_again = write_step_files(job, planned, groups, what, output_dir, inputs, log);
  if (!seen_again.empty()) log.info(seen_again);
  check<NumericsError>(goes_on, what, " (", guard.why_it_stops(record.end),
                       "): lower optim.learning_rate, or look at the step's samples");
  weights.take_back();
  log.warning(text(what, ": the step is left out, weights and optimizer are as before it (", guard.state().skipped,
                   " of ", job.config.train.max_skipped, " in this run)"));
}

Trainer::Trainer(comm::World& world, Config config, LogSink& log, std::unique_ptr<comm::Device> device) {
  config::validate(config);
  const comm::SlowWork slow(world.communicator(), "starting up");
  impl_ = std::make_unique<Impl>(world, std::move(config), log, std::move(device));
}
Trainer::~Trainer() = default;

void Trainer::set_loss(loss::LossFunction loss) { impl_->objective.set_loss(std::move(loss)); }
void Trainer::set_hook(std::function<void(const StepMetrics&)> hook) { hook_ = std::move(hook); }
void Trainer::set_progress(std::function<void(const RunProgress&)> progress) { progress_ = std::move(progress); }
void Trainer::set_stop(std::function<bool()> asked) { stop_ = std::move(asked); }
void Trainer::set_max_steps(int64_t max_steps) {
  check<ConfigError>(max_steps >= 1, "set_max_steps: ", max_steps, " steps are no run");
  impl_->set_max_steps(max_steps);
}
void Trainer::set_output_dir(std::string directory) {
  const std::string cure = "give set_output_dir another folder";
  impl_->inputs.check_spared(directory + "/costs.yaml", cure);
  for (int64_t step = 1; step <= impl_->job.config.train.profile_steps; ++step)
    for (const char* end : {".json", ".planned.json", ".txt"})
      impl_->inputs.check_spared(text(directory, "/trace-", step, end), cure);
  impl_->planner.set_costs_file(directory + "/costs.yaml");
  impl_->output_dir = std::move(directory);
}

void Trainer::plan_ahead(std::shared_ptr<const std::vector<data::Group>> groups) {
  impl_->planner.ahead(std::move(groups), impl_->steps_done + 2);
}

StepMetrics Trainer::evaluate(std::span<const data::Group> groups) {
  const auto start = Clock::now();
  Impl& t = *impl_;
  check_groups(groups, t.job.model, t.objective.shape(), t.objective.needs());
  const StepGroups prepared = t.objective.prepare(groups, /*step=*/0);
  TrafficMeter here;
  here.since_last(t.job.mesh);
  Evaluated evaluated =
      evaluate_groups(t.parts(), t.planner, prepared.all, text("evaluation after step ", t.steps_done));
  t.traffic.leave_out(here.since_last(t.job.mesh));
  evaluated.metrics.insert(prepared.metrics.begin(), prepared.metrics.end());
  evaluated.seconds = seconds_since(start);
  return {.step = t.steps_done, .values = report_evaluation(evaluated)};
}

void Trainer::prepare_reference(std::span<data::Group> groups, std::span<data::Group> evaluated, LogSink& log) {
  Reference& reference = impl_->reference;
  const Config& config = impl_->job.config;
  if (const std::string unexpected = reference_warning(groups, impl_->objective.needs(), config); !unexpected.empty())
    log.warning(unexpected);
  // What data bring is of their own samples, and of tokens alone.
  const loss::Needs& needs = impl_->objective.needs();
  const bool asks_more = needs.step == loss::StepView::kMismatched || needs.base_kl;
  if (!asks_more && has_reference_logps(groups) && has_reference_logps(evaluated)) reference.drop();
  if (!reference.is_there() || !config.loss.precompute_ref_log_probs) return;
  log.info(text("computing the reference's log-probs of ", groups.size() + evaluated.size(), " groups once"));
  for (const std::span<data::Group> all : {groups, evaluated})
    if (!has_reference_logps(all))
      reference.store_logps(all, index(config.train.groups_per_step), impl_->job, impl_->planner);
  reference.drop();
}

std::vector<data::Group> Trainer::gather_groups(std::span<const data::Group> own) const {
  return trainer::gather_groups(own, impl_->job.mesh.world());
}

std::vector<data::Group> Trainer::roll_out(std::span<const std::vector<int32_t>> prompts,
                                           const generate::SamplingOptions& options, uint64_t first_prompt,
                                           generate::GenerationReport* report, const RolledOut& finished) {
  return trainer::roll_out(impl_->job, impl_->weights.runs(), prompts, options, first_prompt, report, finished);
}

void Trainer::check_rollouts(std::span<const std::vector<int32_t>> prompts,
                             const generate::SamplingOptions& options) const {
  trainer::check_rollouts(impl_->job, impl_->weights.runs(), prompts, options);
}
void Trainer::compute_old_logps(std::span<data::Group> groups) {
  const Impl& t = *impl_;
  store_logps(t.weights.runs(), &data::Sample::old_logp, groups, index(t.job.config.train.groups_per_step), t.job,
              t.planner);
}
void Trainer::set_reward(const std::string& name, rewards::RewardFunction reward, double weight) {
  rewards_.push_back({name, std::move(reward), weight});
}

void Trainer::add_inputs(std::span<const std::string> files) {
  for (const std::string& file : files) impl_->inputs.add("the caller's", file);
}
std::string Trainer::input_at(const std::string& path) const { return impl_->inputs.at(path); }

void Trainer::save(const std::string& directory, LogSink& log) {
  const Job& job = impl_->job;
  Weights& weights = impl_->weights;
  SaveAs as{.dtype = export_dtype(job.config)};
  if (impl_->scored && !job.model.adapter.is_there())  // whose files have no place for it
    as.pad_token_id = pad_for_scores(job.model, *impl_->scored, job.config.model.path, log);
  if (as.dtype == DType::kBFloat16) warn_of_lost_updates(weights.rounding(), directory, log);
  save_directory(job, weights, directory, as, impl_->inputs);
}
void Trainer::save_state(const std::string& directory, SaveState options) {
  Impl& t = *impl_;
  const std::string folder = checkpoint::without_slash(directory).string();
  refuse_inputs(folder, t.inputs, t.job.world);
  t.job.world.set_position(text("step ", t.steps_done, ": saving ", folder));
  checkpoint::StateTexts texts = texts_of(t.state(std::move(options.notes)), t.job, t.weights.head());
  SaveHooks hooks{.committing = std::move(options.committing), .saved = std::move(options.saved)};
  if (options.beside_steps)
    t.saver.begin(folder, std::move(texts), std::move(hooks));
  else
    t.saver.save(folder, std::move(texts), std::move(hooks));
}
void Trainer::advance_save() { impl_->saver.advance(); }
void Trainer::finish_save() { impl_->saver.finish(); }
bool Trainer::is_saving() const { return impl_->saver.is_under_way(); }
std::string Trainer::doing() const { return impl_->saver.doing(); }
SaveSeconds Trainer::save_seconds() const { return impl_->saver.seconds(); }

std::string Trainer::fault_of_state(const std::string& directory) {
  return fault_together(directory, impl_->job.world);
}

std::string Trainer::load_state(const std::string& directory, LogSink& log) {
  Impl& t = *impl_;
  const comm::SlowWork slow(t.job.world.communicator(), text("reading ", directory));
  const checkpoint::TrainingState stored(directory);
  TrainerState state = parse_trainer_state(stored.state_json(), directory + "/state.json");
  check_is_of(t.job.model, t.weights.head(), stored, directory);
  refuse_changes(changed_results(state.settings, settings_of(t.job.config)), "settings that change results", directory,
                 t.job.config.train.resume_anyway, log);
  if (const std::string changed = changed_libraries(state.libraries); !changed.empty())
    log.warning(
        text(directory, " was saved with other libraries, whose sums may differ in their last bits: ", changed));
  if (state.mesh != t.job.mesh.shape())
    log.info(
        text(directory, " was saved on ", to_string(state.mesh), " and goes on on ", to_string(t.job.mesh.shape())));
  if (t.scored) t.scored->set_text(state.seen_tokens, directory + "/state.json");
  read_weights(stored, state.updates, t.weights);
  t.go_on_from(state);
  return std::move(state.notes);
}
int64_t Trainer::steps_done() const { return impl_->steps_done; }

std::map<std::string, at::Tensor> Trainer::gather_weights() {
  return gather_whole(impl_->job, impl_->weights, WholeOf::kValues);
}
std::map<std::string, at::Tensor> Trainer::gather_gradients() {
  return gather_whole(impl_->job, impl_->weights, WholeOf::kGradients);
}
ops::FlatParameters& Trainer::parameters() { return impl_->weights.parameters(); }

const config::Settled& Trainer::settled() const { return impl_->job.settled; }
comm::World& Trainer::world() const { return impl_->job.world; }
const comm::Mesh& Trainer::mesh() const { return impl_->job.mesh; }
comm::Device& Trainer::device() const { return *impl_->job.device; }
LogSink& Trainer::log() const { return impl_->job.log; }

}  // namespace fpdist::trainer
