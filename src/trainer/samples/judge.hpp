#pragma once
// trainer (private): Judge, which gives completions their rewards while others are decoded: each rank those that it is
// given, all ranks then have all.

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/data/prompts.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/generate/options.hpp"
#include "fpdist/rewards/rewards.hpp"
#include "fpdist/trainer/trainer.hpp"

namespace fpdist::trainer {

/// Prompts, one a group, and their place among all that are judged together.
using PromptRows = std::vector<const data::PromptRow*>;

/// What was said of rollouts.
struct Judged {
  /// [names][samples of all groups, in order]: nothing where that reward does not judge.
  std::vector<rewards::Values> value;
  rewards::Values total;          ///< [samples]
  rewards::SaidByName said = {};  ///< by the rewards' program, of all samples
  double waited_seconds = 0;      ///< for judges, when all was decoded; of the slowest rank
  /// What this rank has judged: numbers of samples, and their texts.
  std::vector<size_t> own_sample;
  std::vector<rewards::JudgedText> own;
};

class Judge {
 public:
  /// `world` must outlive it.
  Judge(rewards::Rewards rewards, std::unique_ptr<data::Tokenizer> tokenizer, comm::World& world);
  ~Judge();
  const std::vector<std::string>& names() const { return rewards_.names(); }
  data::Tokenizer& tokenizer() { return *tokenizer_; }
  /// What ends completions, of rollouts and evaluations alike: their texts end where it begins.
  void set_stops(const generate::SamplingOptions& sampling);
  /// A round of completions of these prompts begins; one that has not been finished is forgotten, and the program that
  /// may be at it ended.
  void begin(PromptRows prompts);
  /// The completions of one of them, which no other rank takes. They are judged on a thread of the judge's own, those
  /// that have come meanwhile together, beside what the caller goes on with.
  void take(size_t prompt, const data::Group& group);
  /// take(), for Trainer::roll_out.
  RolledOut taking() {
    return [this](size_t prompt, const data::Group& group) { take(prompt, group); };
  }
  /// Collective, the round is over: every sample's `reward`, where there is one. The same groups on every rank, one of
  /// each prompt, as they were taken. Throws DataError on all ranks, with what was wrong and where, when a reward
  /// has failed on one.
  Judged finish(std::span<data::Group> groups);

 private:
  struct Round;
  void judge_what_comes(Round& round);
  void judge_some(const std::vector<std::pair<size_t, data::Group>>& taken, Round& round);
  rewards::JudgedText text_of(const data::Sample& sample, const data::PromptRow& row) const;

  rewards::Rewards rewards_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  comm::World& world_;
  std::vector<int64_t> stop_token_ids_;
  std::vector<std::string> stop_;
  std::unique_ptr<Round> round_;
};

/// rewards/NAME/mean and rewards/NAME/std (n - 1, over the samples that it judges) as TRL names them;
/// rewards/command/NAME, the mean of what the program said besides.
std::map<std::string, double> reward_metrics(const Judged& judged, std::span<const std::string> names);

}  // namespace fpdist::trainer
