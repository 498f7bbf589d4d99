// What a list of DPO's losses needs, and whether its options go together. No torch: the planning half asks here.

#include <algorithm>
#include <array>
#include <string>

#include "fpdist/core/error.hpp"
#include "src/loss/dpo/dpo.hpp"

namespace fpdist::loss {
namespace {

/// What a loss reads beside the margin of log-ratios.
struct Traits {
  std::string_view name;
  bool scores = false;      ///< f_divergence_type: the partition functions cancel in its margin
  bool smooths = false;     ///< label_smoothing
  bool sorts = false;       ///< the whole step's pairs
  bool divides = false;     ///< by beta
  bool is_of_step = false;  ///< its terms are no pair's own
};
constexpr std::array<Traits, 15> kTraits{{{.name = "sigmoid", .scores = true},
                                          {.name = "hinge", .scores = true},
                                          {.name = "ipo", .scores = true, .divides = true},
                                          {.name = "exo_pair", .scores = true, .smooths = true},
                                          {.name = "nca_pair"},
                                          {.name = "robust", .scores = true, .smooths = true},
                                          {.name = "bco_pair"},
                                          {.name = "sppo_hard", .divides = true},
                                          {.name = "aot", .smooths = true, .sorts = true, .is_of_step = true},
                                          {.name = "aot_unpaired", .smooths = true, .sorts = true, .is_of_step = true},
                                          {.name = "apo_zero"},
                                          {.name = "apo_down"},
                                          {.name = "discopop", .scores = true},
                                          {.name = "sft", .scores = true, .is_of_step = true},
                                          {.name = "sigmoid_norm", .scores = true}}};

/// Names of losses with a trait, as a message lists them.
std::string names_with(bool Traits::*trait) {
  std::string names;
  for (const Traits& one : kTraits)
    if (one.*trait) names += text(names.empty() ? "" : " | ", one.name);
  return names;
}

bool has(const std::string& name, bool Traits::*trait) {
  return std::any_of(kTraits.begin(), kTraits.end(), [&](const Traits& one) { return one.name == name && one.*trait; });
}

/// The first of the losses that has the trait, or, with `wanted` false, that has it not; "" where there is none.
std::string first_with(const LossOptions& options, bool Traits::*trait, bool wanted = true) {
  for (const std::string& name : options.loss_type)
    if (has(name, trait) == wanted) return name;
  return "";
}

void check_smoothing(const LossOptions& options) {
  const double flipped = options.label_smoothing;
  check<ConfigError>(flipped == 0 || !first_with(options, &Traits::smooths).empty(), "loss.label_smoothing is ",
                     flipped, ", which ", options.loss_type.front(),
                     " does not read: loss.loss_type: ", names_with(&Traits::smooths), ", or leave it out");
  check<ConfigError>(flipped >= 0 && flipped < 0.5, "loss.label_smoothing is ", flipped, ": use 0 or more, below 0.5");
  const bool has_exo =
      std::find(options.loss_type.begin(), options.loss_type.end(), "exo_pair") != options.loss_type.end();
  check<ConfigError>(!has_exo || flipped > 0,
                     "loss.label_smoothing is 0: exo_pair takes its logarithm, the paper uses 0.001");
}

void check_divergence(LossOptions& options) {
  settle_name(options.f_divergence_type, "f_divergence_type", Method::kDpo,
              {"reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"});
  const std::string other = first_with(options, &Traits::scores, false);
  check<ConfigError>(options.f_divergence_type == "reverse_kl" || other.empty(), "loss.f_divergence_type is ",
                     options.f_divergence_type, ", and ", other,
                     " is defined for reverse_kl alone: the others go with ", names_with(&Traits::scores));
}

}  // namespace

Needs dpo_needs(const LossOptions& options) {
  const bool sorts = !first_with(options, &Traits::sorts).empty();
  return {.mean_logit = true,
          .log_sum_sq = options.use_weighting,
          .reference = true,
          .step = sorts ? StepView::kSamples : StepView::kNone};
}

void check_dpo(LossOptions& options) {
  settle_number(options.beta, "beta", 0.1);
  const std::string divides = first_with(options, &Traits::divides);
  check<ConfigError>(options.beta > 0 || divides.empty(), "loss.beta is 0: ", divides, " divides by it");
  if (options.loss_weights.empty()) options.loss_weights.assign(options.loss_type.size(), 1.0);
  check<ConfigError>(options.loss_weights.size() == options.loss_type.size(), "loss.loss_weights has ",
                     options.loss_weights.size(), " entries, loss.loss_type ", options.loss_type.size(),
                     ": give one a loss");
  check_smoothing(options);
  check_divergence(options);
  check<ConfigError>(options.ld_alpha == -1 || (options.ld_alpha >= 0 && options.ld_alpha <= 1), "loss.ld_alpha is ",
                     options.ld_alpha, ": use 0 to 1, or leave it out");
  check<ConfigError>(options.discopop_tau > 0, "loss.discopop_tau is ", options.discopop_tau, ": use more than 0");
  const std::string of_step = first_with(options, &Traits::is_of_step);
  check<ConfigError>(!options.use_weighting || of_step.empty(), "loss.use_weighting weighs pairs, and the terms of ",
                     of_step, " are no pair's own: leave one of them out");
}

}  // namespace fpdist::loss
