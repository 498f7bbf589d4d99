#pragma once
// loss: what the rest of the system knows of a loss: its name, what it reads, what its groups are, what progress shows
// of it. Needs no tensors: configs and plans ask here too. To add a loss, write its header (a LossSpec) and its source
// (one function over Edges) in src/loss, and give the two a line in src/loss/losses.hpp.

#include <span>
#include <string_view>

#include "fpdist/core/head.hpp"
#include "fpdist/core/method.hpp"
#include "fpdist/loss/options.hpp"
#include "fpdist/plan/options.hpp"

namespace fpdist::loss {

/// What a loss is told of the whole step, beside the edges of a pack: values that a pass without gradients takes down
/// ahead of the step (make_look), the same on every mesh and for packs cut anywhere.
enum class StepView {
  kNone,       ///< its terms depend on nothing outside their group
  kSamples,    ///< values of the step's own samples
  kMismatched  ///< values of its prompts with other prompts' completions (mismatched())
};

/// What must be there before a loss can be taken. Fields of Edges have the same names.
struct Needs {
  Head head = Head::kLanguageModel;  ///< log-probs of edges, or a score of each sample and nothing else
  /// Beside each log-prob of a language model; a loss of one's own in the method's place may read them as well.
  bool entropy = true, correct = true;
  bool mean_logit = false, log_sum_sq = false;
  bool entropy_gradient = false;  ///< the entropy can be differentiated
  bool reference = false;         ///< ref_logp: from a frozen copy of the first weights where the data have none
  bool base_kl = false;           ///< beside `reference`: it always runs, whatever the data have
  bool old_logp = false;          ///< where the data have them
  bool advantage = false;         ///< fill_advantages goes ahead of the step
  bool position = false;
  bool prefix = false;         ///< in_prefix and prefix_advantage: samples may begin with a demonstration
  bool wanted = false;         ///< from each sample's reward, 1 or 0
  bool learns_prompt = false;  ///< of a group's first sample, whose prompt gets targets ahead of the step
  StepView step = StepView::kNone;
};

/// Samples of a group.
enum class GroupShape {
  kSingle,  ///< one
  kPair,    ///< chosen, then rejected; the loss is not linear across the two
  kAny      ///< any number, each with terms of its own
};

/// A metric beside the loss on a line of progress, of steps that have it; nothing without a label.
struct Shown {
  std::string_view label, metric;
};

/// A loss without its function, see make_loss.
struct LossSpec {
  Method method;
  std::string_view name;  ///< one of loss.loss_type; empty: the method has this loss only
  GroupShape group;
  Shown shown = {};
  bool is_mean_nll = false;  ///< the loss is a mean of minus log-probs over tokens: its exp is a perplexity
  /// Of options that are checked.
  Needs (*needs)(const LossOptions& options) = [](const LossOptions&) { return Needs{}; };
  /// Checks what the loss reads and fills in what was left out; throws ConfigError naming loss.<key>.
  void (*check)(LossOptions& options) = [](LossOptions&) {};

  /// What may not be torn over packs: every group of a loss that is not linear across its samples.
  plan::Atomic atomic() const { return group == GroupShape::kPair ? plan::Atomic::kLines : plan::Atomic::kSamples; }
};

/// Every loss; the first of a method is its default.
std::span<const LossSpec> specs();

/// Their names by method, as --help gives them: "sft: nll; dpo: sigmoid; ..."; a method's only loss needs no name.
std::string_view names_by_method();

/// The method's loss that options.loss_type names, the first where it lists several; throws ConfigError with the names
/// that there are.
const LossSpec& spec_of(Method method, const LossOptions& options);

/// `options` checked for `method`, with what was left out filled in; throws ConfigError naming loss.<key>.
LossOptions resolved(Method method, LossOptions options);

/// What the method's loss needs with these options; throws as resolved() does.
Needs needs_of(Method method, const LossOptions& options);

}  // namespace fpdist::loss
