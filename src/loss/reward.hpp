#pragma once
// loss (private): Bradley-Terry: -log sigmoid(r_chosen - r_rejected - margin), mean over the step's pairs, plus
// center_rewards_coefficient * mean((r_chosen + r_rejected)^2) (Eisenstein et al., 2023).

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function reward_loss;

inline constexpr LossSpec kBradleyTerry{.method = Method::kReward,
                                        .name = "",
                                        .group = GroupShape::kPair,
                                        .shown = {.label = "accuracy", .metric = "accuracy"},
                                        .needs = [](const LossOptions&) { return Needs{.head = Head::kScore}; },
                                        .check =
                                            [](LossOptions& options) {
                                              settle_number(options.center_rewards_coefficient,
                                                            "center_rewards_coefficient", 0.0);
                                            }};

}  // namespace fpdist::loss
