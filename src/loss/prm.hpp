#pragma once
// loss (private): Uesato et al., "Solving math word problems with process- and outcome-based feedback" (2022), as TRL's
// PRMTrainer had it: minus the mean over the step's labels of the log-prob of a label's class, right or not, at the
// last token of what it judges.

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function prm_loss;

inline constexpr LossSpec kProcessReward{.method = Method::kPrm,
                                         .name = "",
                                         .group = GroupShape::kSingle,
                                         .shown = {.label = "accuracy", .metric = "accuracy"},
                                         .needs = [](const LossOptions&) { return Needs{.head = Head::kTokenClass}; }};

}  // namespace fpdist::loss
