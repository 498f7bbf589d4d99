#include "fpdist/optim/options.hpp"

#include "src/core/key.hpp"

namespace fpdist::optim {
namespace {

constexpr Valid kDecay{
    .values = "0 <= x < 1", .must = "at least 0 and below 1", .accepts = [](double x) { return x >= 0 && x < 1; }};
constexpr Valid kFraction{
    .values = "0 <= x <= 1", .must = "at least 0 and 1 at most", .accepts = [](double x) { return x >= 0 && x <= 1; }};

}  // namespace

std::span<const Key> OptimOptions::keys() {
  using Options = OptimOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(learning_rate,
                 "peak learning rate; without it that of TRL's trainer: sft 2e-5, dpo and grpo 1e-6, reward 1e-4",
                 kFromZero),
      FPDIST_KEY(adam_beta1, "AdamW's decay of the mean", kDecay),
      FPDIST_KEY(adam_beta2, "AdamW's decay of the variance", kDecay),
      FPDIST_KEY(adam_epsilon, "AdamW's epsilon", kAboveZero),
      FPDIST_KEY(weight_decay, "of matrices, not of biases and norm weights", kFromZero),
      FPDIST_KEY(max_grad_norm, "clip the global gradient norm; 0: off", kFromZero),
      // RateSchedule says which names it knows.
      FPDIST_KEY(lr_scheduler_type, "learning rate over the steps",
                 Valid{.values = "linear | cosine | constant | constant_with_warmup | cosine_with_restarts | "
                                 "cosine_with_min_lr | polynomial | inverse_sqrt | warmup_stable_decay"}),
      FPDIST_KEY(lr_scheduler_kwargs, "the schedule's own arguments, e.g. min_lr_rate=0.1"),
      FPDIST_KEY(warmup_steps, "steps of linear warm-up", kFromZero),
      FPDIST_KEY(warmup_ratio, "part of the steps that warm up, where warmup_steps is 0", kFraction),
      FPDIST_KEY(learning_rates, "pattern of weight names -> their peak learning rate, e.g. *embed_tokens*=1e-5")};
  return kKeys;
}

}  // namespace fpdist::optim
