#pragma once
// loss (private): minus the mean log-prob over the step's edges.

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function sft_loss;

inline constexpr LossSpec kNll{.method = Method::kSft, .name = "nll", .group = GroupShape::kSingle};

}  // namespace fpdist::loss
