#pragma once
// loss (private): every loss there is.

#include "src/loss/cpo.hpp"
#include "src/loss/dpo/dpo.hpp"
#include "src/loss/grpo/grpo.hpp"
#include "src/loss/kto.hpp"
#include "src/loss/orpo.hpp"
#include "src/loss/prm.hpp"
#include "src/loss/reward.hpp"
#include "src/loss/sft.hpp"

namespace fpdist::loss {

/// A loss's spec, its function and what it takes down ahead of a step, side by side as types: a table of specs is made
/// without linking a function.
template <const LossSpec& kItsSpec, Function& kItsFunction, LookFunction* kItsLook = nullptr>
struct Loss {
  static constexpr const LossSpec& kSpec = kItsSpec;
  static constexpr Function& kFunction = kItsFunction;
  static constexpr LookFunction* kLook = kItsLook;
};
template <typename...>
struct List {};

/// One line a loss; the first of a method is its default.
// clang-format off
using Losses = List<
    Loss<kNll, sft_loss>,
    Loss<kSigmoid, dpo_loss, dpo_look>,
    Loss<kHinge, dpo_loss, dpo_look>,
    Loss<kIpo, dpo_loss, dpo_look>,
    Loss<kExoPair, dpo_loss, dpo_look>,
    Loss<kNcaPair, dpo_loss, dpo_look>,
    Loss<kRobust, dpo_loss, dpo_look>,
    Loss<kBcoPair, dpo_loss, dpo_look>,
    Loss<kSppoHard, dpo_loss, dpo_look>,
    Loss<kAot, dpo_loss, dpo_look>,
    Loss<kAotUnpaired, dpo_loss, dpo_look>,
    Loss<kApoZero, dpo_loss, dpo_look>,
    Loss<kApoDown, dpo_loss, dpo_look>,
    Loss<kDiscopop, dpo_loss, dpo_look>,
    Loss<kChosenNll, dpo_loss, dpo_look>,
    Loss<kSigmoidNorm, dpo_loss, dpo_look>,
    Loss<kBradleyTerry, reward_loss>,
    Loss<kDapo, grpo_loss, grpo_look>,
    Loss<kGrpo, grpo_loss, grpo_look>,
    Loss<kDrGrpo, grpo_loss, grpo_look>,
    Loss<kBnpo, grpo_loss, grpo_look>,
    Loss<kCispo, grpo_loss, grpo_look>,
    Loss<kSapo, grpo_loss, grpo_look>,
    Loss<kLuspo, grpo_loss, grpo_look>,
    Loss<kKto, kto_loss, kto_look>,
    Loss<kApoZeroUnpaired, kto_loss>,
    Loss<kCpoSigmoid, cpo_loss>,
    Loss<kCpoHinge, cpo_loss>,
    Loss<kCpoIpo, cpo_loss>,
    Loss<kCpoSimpo, cpo_loss>,
    Loss<kCpoComparative, cpo_loss>,
    Loss<kOddsRatio, orpo_loss>,
    Loss<kProcessReward, prm_loss>>;
// clang-format on

}  // namespace fpdist::loss
