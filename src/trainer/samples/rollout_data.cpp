#include "src/trainer/samples/rollout_data.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/generate/generate.hpp"
#include "fpdist/loss/loss.hpp"
#include "src/comm/agreement.hpp"
#include "src/config/hybrids.hpp"
#include "src/config/planned_rollouts.hpp"
#include "src/config/read_data.hpp"
#include "src/config/rollout_inputs.hpp"
#include "src/core/checksum.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/core/words.hpp"
#include "src/trainer/samples/completions_file.hpp"
#include "src/trainer/samples/generated_evaluation.hpp"
#include "src/trainer/samples/hybrid_rollouts.hpp"
#include "src/trainer/samples/judge.hpp"
#include "src/trainer/samples/round.hpp"

namespace fpdist::trainer {
namespace {

using Prompts = std::vector<data::PromptRow>;

Digest digest_of(const Prompts& prompts) {
  Checksum sum;
  for (const data::PromptRow& row : prompts) {
    sum.add(std::span<const int32_t>(row.token)).add(std::span<const char>(row.columns));
    if (!row.demonstration.empty()) sum.add(std::span<const int32_t>(row.demonstration));
  }
  return sum.value();
}

/// Collective.
void check_same(const Prompts& prompts, const std::string& key, comm::Communicator& world) {
  const std::vector<comm::Fact> facts{{key, text(prompts.size(), " rows, checksum ", to_string(digest_of(prompts)))}};
  const auto differences = comm::find_differences(facts, world);
  check<DataError>(differences.empty(), "the ranks have read different prompts: ", comm::to_text(differences),
                   "; copy the same files to every node");
}

class RolloutData final : public RunData {
 public:
  RolloutData(Trainer& trainer, std::span<const rewards::NamedReward> rewards)
      : trainer_(trainer),
        job_(trainer.settled()),
        options_(job_.config.rollout),
        judge_(make_rewards(rewards), config::tokenizer_of(job_.config, job_.model), trainer.world()),
        inputs_(config::read_rollout_inputs(job_, judge_.tokenizer())),
        prompts_(inputs_.prompts),
        sampling_(inputs_.sampling),
        rounds_(job_.config, std::ssize(prompts_)) {
    comm::Communicator& world = trainer.world().communicator();
    judge_.set_stops(sampling_);
    check_same(prompts_, "rollout.prompts", world);
    check_same(inputs_.evaluated, "data.eval_path", world);
    config::check_rollouts(job_, inputs_);
    for (const config::PromptSet& set : config::prompt_sets(job_, inputs_))
      trainer.check_rollouts(set.prompts, set.sampling);
    mark_ = {.groups = std::ssize(prompts_),
             .samples = to_string(fpdist::trainer::digest_of(prompts_)),
             .order = text("seed ", job_.config.train.seed, job_.config.data.shuffle ? ", shuffled" : ""),
             .settings = settings_of(job_.config, "data.")};
  }

  std::string size() const override {
    return text(prompts_.size(), " prompts, ", options_.num_generations, " completions of each, ",
                config::hybrids_text(job_.config), rounds_.prompts_in_round(), " prompts a round");
  }
  int64_t steps_per_epoch() const override { return rounds_.steps_per_epoch(); }
  const DataMark& mark() const override { return mark_; }
  std::vector<std::string> skipped() const override { return {}; }
  void prepare(LogSink& log) override {
    if (!is_filtered() || trainer_.world().rank() != 0) return;
    log.warning(
        "rollout.top_k, top_p, min_p or repetition_penalty change what is drawn, and log-probs are of the whole "
        "distribution, which is what the loss compares: rollout/truncated_mass says how much of it is never drawn");
  }

  SharedGroups step(int64_t index, LogSink& log) override {
    if (rounds_.round_of(index) != round_.number) make_round(index, log);
    is_first_ = index % rounds_.steps_in_round() == 0;
    return coming_index_ == index ? coming_ : slice(index);
  }
  SharedGroups ahead(int64_t index) override {
    if (rounds_.round_of(index) != round_.number) return nullptr;
    coming_ = slice(index), coming_index_ = index;
    return coming_;
  }
  void add_metrics(StepMetrics& metrics) const override {
    for (const auto& [name, value] : round_.metrics) metrics.values[name] = value;
    if (is_first_) return;
    for (const char* waited : {"rollout/seconds", "rollout/judge_wait_seconds"}) metrics.values[waited] = 0;
  }

  Evaluate evaluation() override {
    if (inputs_.evaluated.empty()) return {};
    return [this](EvaluationOf of) {
      return evaluate_generated(trainer_, judge_, of == EvaluationOf::kAll ? inputs_.evaluated : Prompts(),
                                inputs_.evaluation);
    };
  }
  std::string state(int64_t done) const override {
    return done % rounds_.steps_in_round() == 0 ? "{}" : to_json(round_);  // the next step makes a round of its own
  }
  void go_on_from(const std::string& state, const std::string& where) override { round_ = parse_round(state, where); }

 private:
  rewards::Rewards make_rewards(std::span<const rewards::NamedReward> own) const {
    config::check_rewards(job_.config, own.size());
    rewards::Rewards all(job_.config.reward, options_.max_completion_length);
    for (const rewards::NamedReward& reward : own) all.add(reward);
    return all;
  }

  SharedGroups slice(int64_t step) const {
    const auto begin = round_.groups.begin() + rounds_.place_of(step);
    return std::make_shared<const std::vector<data::Group>>(begin, begin + job_.config.train.groups_per_step);
  }

  void make_round(int64_t index, LogSink& log) {
    const auto start = Clock::now();
    const int64_t number = rounds_.round_of(index);
    PromptRows rows;
    std::vector<std::vector<int32_t>> tokens, begun;
    for (const int64_t place : rounds_.prompts_of(number)) {
      const data::PromptRow& row = *rows.emplace_back(&prompts_[fpdist::index(place)]);
      tokens.push_back(row.token);
      if (options_.num_hybrids > 0)
        begun.push_back(config::begun(row, config::prefix_length(row, place, rounds_.first_step_of(number), options_)));
    }
    generate::GenerationReport report;
    judge_.begin(rows);
    round_ = {.number = number,
              .groups = roll_out_hybrids(trainer_, tokens, begun, sampling_, options_.num_hybrids,
                                         static_cast<uint64_t>(rounds_.first_of(number)), report, judge_.taking()),
              .metrics = {}};
    const Judged judged = judge_.finish(round_.groups);
    round_.metrics = reward_metrics(judged, judge_.names());
    round_.metrics["rollout/judge_wait_seconds"] = judged.waited_seconds;
    round_.metrics.merge(loss::fill_advantages(round_.groups, job_.config.loss));
    round_.metrics.merge(loss::completion_metrics(round_.groups));
    add_figures(report, seconds_since(start));
    set_old_logps();
    if (options_.log_completions)
      write_completions(job_.config.train.output_dir, index + 1, judged, judge_.names(), round_.groups,
                        trainer_.world());
    warn(log);
  }

  void add_figures(const generate::GenerationReport& all, double seconds) {
    const auto tokens = static_cast<double>(all.completion_tokens);
    double alone = 0;
    for (const data::Group& group : round_.groups)
      for (const data::Sample& sample : group.sample) alone += static_cast<double>(sample.length());
    round_.metrics["rollout/seconds"] = seconds;
    round_.metrics["rollout/tokens_per_second"] = tokens / std::max(seconds, 1e-9);
    round_.metrics["rollout/kv_gib"] = all.kv_gib;
    round_.metrics["rollout/sharing_ratio"] = alone / (static_cast<double>(all.computed_tokens) + tokens);
    round_.metrics["rollout/tail_fraction"] =
        all.tail_seconds / std::max(all.prefill_seconds + all.decode_seconds, 1e-9);
    if (is_filtered()) round_.metrics["rollout/truncated_mass"] = all.truncated_mass / tokens;
  }

  /// Tokens are drawn by another distribution than the one that their log-probs are of.
  bool is_filtered() const {
    return options_.top_k > 0 || options_.top_p < 1 || options_.min_p > 0 || options_.repetition_penalty != 1;
  }

  /// What ratios compare with, see RolloutOptions::old_logps.
  void set_old_logps() {
    if (options_.old_logps == "sampled") return;
    const std::vector<data::Group> sampled = round_.groups;
    if (options_.old_logps == "auto" && rounds_.steps_in_round() == 1) {
      for (data::Group& group : round_.groups)
        for (data::Sample& sample : group.sample) sample.old_logp.clear();
      return;
    }
    trainer_.compute_old_logps(round_.groups);
    add_difference(sampled);
  }
  /// How far the log-probs that came with the tokens are from the trainer's.
  void add_difference(const std::vector<data::Group>& sampled) {
    double sum = 0, most = 0, count = 0;
    for (size_t g = 0; g < sampled.size(); ++g)
      for (size_t s = 0; s < sampled[g].sample.size(); ++s) {
        const std::vector<double>&before = sampled[g].sample[s].old_logp, &now = round_.groups[g].sample[s].old_logp;
        if (before.empty()) continue;  // of a hybrid
        for (auto t = fpdist::index(sampled[g].sample[s].prompt_length); t < now.size(); ++t) {
          const double difference = std::abs(now[t] - before[t]);
          sum += difference, most = std::max(most, difference), ++count;
        }
      }
    round_.metrics["sampling/sampling_logp_difference/mean"] = sum / std::max(count, 1.0);
    round_.metrics["sampling/sampling_logp_difference/max"] = most;
  }

  void warn(LogSink& log) {
    if (has_warned_ || trainer_.world().rank() != 0 || round_.metrics.at("completions/clipped_ratio") < 1) return;
    has_warned_ = true;
    log.warning(text("no completion of this round has ended within rollout.max_completion_length ",
                     options_.max_completion_length, ": allow more, or name what ends one in rollout.stop_token_ids"));
  }

  Trainer& trainer_;
  const config::Settled& job_;
  const generate::RolloutOptions& options_;
  Judge judge_;
  const config::RolloutInputs inputs_;
  const Prompts& prompts_;
  const generate::SamplingOptions& sampling_;
  config::RolloutRounds rounds_;
  DataMark mark_;
  RolloutRound round_;
  bool is_first_ = false, has_warned_ = false;
  SharedGroups coming_;  ///< the step that was asked for ahead
  int64_t coming_index_ = -1;
};

}  // namespace

std::unique_ptr<RunData> make_rollout_data(Trainer& trainer, std::span<const rewards::NamedReward> rewards, LogSink&) {
  return std::make_unique<RolloutData>(trainer, rewards);
}

}  // namespace fpdist::trainer
