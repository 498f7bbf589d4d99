#pragma once
// trainer (private): Judge, which gives completions their rewards: each rank those of its run of the prompts, all ranks
// then have all.

#include <map>
#include <memory>
#include <span>
#include <string>
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
  /// This rank's: from where on in `value`, and the texts.
  size_t first_own = 0;
  std::vector<rewards::JudgedText> own;
};

class Judge {
 public:
  /// `world` must outlive it.
  Judge(rewards::Rewards rewards, std::unique_ptr<data::Tokenizer> tokenizer, comm::World& world);
  const std::vector<std::string>& names() const { return rewards_.names(); }
  data::Tokenizer& tokenizer() { return *tokenizer_; }
  /// What ends completions, of rollouts and evaluations alike: their texts end where it begins.
  void set_stops(const generate::SamplingOptions& sampling);
  /// Collective: every sample's `reward`, where there is one. The same groups on every rank, one of each of `prompts`.
  /// Throws DataError on all ranks, with what was wrong and where, when a reward fails on one.
  Judged judge(std::span<data::Group> groups, const PromptRows& prompts);

 private:
  at::Tensor judge_own(std::span<const data::Group> groups, const PromptRows& prompts, Judged& judged);
  rewards::JudgedText text_of(const data::Sample& sample, const data::PromptRow& row) const;
  std::vector<rewards::JudgedText> texts_of(std::span<const data::Group> groups, const PromptRows& prompts);

  rewards::Rewards rewards_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  comm::World& world_;
  std::vector<int64_t> stop_token_ids_;
  std::vector<std::string> stop_;
};

/// rewards/NAME/mean and rewards/NAME/std (n - 1, over the samples that it judges) as TRL names them;
/// rewards/command/NAME, the mean of what the program said besides.
std::map<std::string, double> reward_metrics(const Judged& judged, std::span<const std::string> names);

}  // namespace fpdist::trainer
