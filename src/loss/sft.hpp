#pragma once
// loss (private): minus the mean over the step's edges of log-prob times weight.

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function sft_loss;

inline constexpr LossSpec kNll{
    .method = Method::kSft, .name = "nll", .group = GroupShape::kSingle, .is_mean_nll = true};

}  // namespace fpdist::loss
