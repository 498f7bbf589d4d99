#pragma once
// loss (private): losses of preference pairs that compare with a reference, one file a loss beside this one. Each is a
// mean of terms over the step's pairs; a list of them is their sum by loss_weights.

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function dpo_loss;
LookFunction dpo_look;

Needs dpo_needs(const LossOptions& options);
void check_dpo(LossOptions& options);

constexpr LossSpec pair_loss(std::string_view name) {
  return {.method = Method::kDpo,
          .name = name,
          .group = GroupShape::kPair,
          .shown = {.label = "accuracy", .metric = "rewards/accuracies"},
          .needs = dpo_needs,
          .check = check_dpo};
}

inline constexpr LossSpec kSigmoid = pair_loss("sigmoid"), kHinge = pair_loss("hinge"), kIpo = pair_loss("ipo"),
                          kExoPair = pair_loss("exo_pair"), kNcaPair = pair_loss("nca_pair"),
                          kRobust = pair_loss("robust"), kBcoPair = pair_loss("bco_pair"),
                          kSppoHard = pair_loss("sppo_hard"), kAot = pair_loss("aot"),
                          kAotUnpaired = pair_loss("aot_unpaired"), kApoZero = pair_loss("apo_zero"),
                          kApoDown = pair_loss("apo_down"), kDiscopop = pair_loss("discopop"),
                          kChosenNll = pair_loss("sft"), kSigmoidNorm = pair_loss("sigmoid_norm");

}  // namespace fpdist::loss
