#pragma once
// loss (private): every loss there is.

#include "src/loss/dpo.hpp"
#include "src/loss/grpo.hpp"
#include "src/loss/reward.hpp"
#include "src/loss/sft.hpp"

namespace fpdist::loss {

/// A loss's spec and its function, side by side as types: a table of specs is made without linking a function.
template <const LossSpec& kItsSpec, Function& kItsFunction>
struct Loss {
  static constexpr const LossSpec& kSpec = kItsSpec;
  static constexpr Function& kFunction = kItsFunction;
};
template <typename...>
struct List {};

/// One line a loss; the first of a method is its default.
// clang-format off
using Losses = List<
    Loss<kNll, sft_loss>,
    Loss<kSigmoid, dpo_loss>,
    Loss<kBradleyTerry, reward_loss>,
    Loss<kDapo, grpo_loss>,
    Loss<kGrpo, grpo_loss>,
    Loss<kDrGrpo, grpo_loss>>;
// clang-format on

}  // namespace fpdist::loss
