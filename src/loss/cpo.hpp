#pragma once
// loss (private): preference pairs without a reference, m the margin of log-probs: Xu et al., "Contrastive preference
// optimization" (2024), equation 3: -log sigmoid(beta m) + cpo_alpha times the chosen answers' mean negative
// log-likelihood; hinge max(0, 1 - beta m); ipo (m - 1 / (2 beta))^2, of log-probs a token; simpo, Meng et al., "SimPO"
// (2024), equation 6: -log sigmoid(beta m - gamma), of log-probs a token; comparative, after Comparative Prefix-Tuning
// (2025), whose public text leaves the form open: max(0, gamma - m), of log-probs a token, plus kl_weight times the
// mean over all tokens of both answers of KL(reference || policy), the direction of its ancestor, He and Vechev, "SVEN"
// (2023), over the whole vocabulary; which tokens changed is the data's business. With alpha: Gupta et al., "AlphaPO"
// (2025): (1 - p^-alpha) / alpha in the place of log p.

#include "fpdist/core/error.hpp"
#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function cpo_loss;

inline void check_cpo(LossOptions& options) {
  settle_number(options.beta, "beta", 0.1);
  settle_number(options.cpo_alpha, "cpo_alpha", 1.0);
  settle_number(options.simpo_gamma, "simpo_gamma", 0.5);
  const std::string& type = options.loss_type.front();
  check<ConfigError>(options.beta > 0 || (type != "ipo" && type != "simpo"), "loss.beta is 0: ", type,
                     " divides by it");
  const bool smooths = type == "sigmoid" || type == "simpo";
  check<ConfigError>(options.label_smoothing == 0 || smooths, "loss.label_smoothing is ", options.label_smoothing,
                     ", which ", type, " does not read: loss.loss_type: sigmoid | simpo, or leave it out");
  check<ConfigError>(options.kl_weight >= 0, "loss.kl_weight is ", options.kl_weight, ": use 0 or more");
  check<ConfigError>(options.kl_weight == 0 || type == "comparative", "loss.kl_weight is ", options.kl_weight,
                     ", which ", type, " does not read: loss.loss_type: comparative, or leave it out");
  check<ConfigError>(options.kl_weight == 0 || !options.precompute_ref_log_probs, "loss.precompute_ref_log_probs ",
                     "drops the reference, and loss.kl_weight compares whole distributions with it: leave out one");
  check<ConfigError>(options.label_smoothing >= 0 && options.label_smoothing <= 1, "loss.label_smoothing is ",
                     options.label_smoothing, ": use 0 to 1");
}

constexpr LossSpec contrastive(std::string_view name) {
  return {.method = Method::kCpo,
          .name = name,
          .group = GroupShape::kPair,
          .shown = {.label = "accuracy", .metric = "rewards/accuracies"},
          .needs =
              [](const LossOptions& options) {
                const bool compares = options.kl_weight > 0;
                return Needs{.mean_logit = true, .reference = compares, .base_kl = compares};
              },
          .check = check_cpo};
}

inline constexpr LossSpec kCpoSigmoid = contrastive("sigmoid"), kCpoHinge = contrastive("hinge"),
                          kCpoIpo = contrastive("ipo"), kCpoSimpo = contrastive("simpo"),
                          kCpoComparative = contrastive("comparative");

}  // namespace fpdist::loss
