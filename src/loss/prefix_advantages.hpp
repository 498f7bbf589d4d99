#pragma once
// loss (private): advantages where some completions begin with a demonstration: Huang et al., "Blending supervised and
// reinforcement fine-tuning with prefix sampling" (Prefix-RFT, 2025), by the formulas of its dr_grpo_prefix. With r a
// sample's reward, m_p the mean over the n rollouts behind its prefix and m the mean over the group's plain rollouts, a
// mean of fewer than two being 0:
//   plain rollout                    r - m
//   hybrid: what the policy wrote    r - m_p
//           the demonstration        (r - m_p - m) / n

#include "fpdist/data/sample.hpp"

namespace fpdist::loss {

/// Fills advantage, and of hybrids prefix_advantage, all over `scale`, of every sample of `group` that has a reward and
/// no advantage. Hybrids whose prefixes are the same tokens are rollouts of one prefix.
void fill_prefix_advantages(data::Group& group, double scale);

}  // namespace fpdist::loss
