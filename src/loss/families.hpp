#pragma once
// loss (private): one function a family. `options` are resolved: checked, with every default filled in.

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {

/// Minus the mean log-prob over the step's edges.
LossOutput sft_loss(const Edges& edges, const plan::StepTotals& totals);

/// Rafailov et al., "Direct preference optimization" (2023): -log sigmoid(beta * (chosen - rejected log-ratio)), mean
/// over the step's pairs.
LossOutput dpo_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options);

/// Bradley-Terry: -log sigmoid(r_chosen - r_rejected - margin), mean over the step's pairs, plus
/// center_rewards_coefficient * mean((r_chosen + r_rejected)^2) (Eisenstein et al., 2023).
LossOutput reward_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options);

/// Clipped policy gradient. Normalised as grpo (Shao et al., "DeepSeekMath", 2024), dapo (Yu et al., 2025) or dr_grpo
/// (Liu et al., 2025); ratios by token or by sequence (Zheng et al., "Group sequence policy optimization", 2025).
LossOutput grpo_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options);

}  // namespace fpdist::loss
