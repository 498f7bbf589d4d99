#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/loss.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::loss {
namespace {

std::string refusal(Method method, const LossOptions& options) {
  return test::refusal<ConfigError>([&] { make_loss(method, options); });
}

/// The loss by its name, with what it cannot be without.
LossOptions options_of(const LossSpec& spec) {
  return {.loss_type = {std::string(spec.name)}, .label_smoothing = spec.name == "exo_pair" ? 0.001 : 0.0};
}

TEST(LossOptions, DefaultsMakeEveryLoss) {
  for (const LossSpec& spec : specs())
    EXPECT_TRUE(make_loss(spec.method, options_of(spec))) << name_of(spec.method) << spec.name;
}

TEST(LossOptions, TheFirstLossOfAMethodIsItsDefault) {
  EXPECT_TRUE(names_by_method().starts_with("sft: nll")) << names_by_method();
  EXPECT_NE(names_by_method().find("; grpo: dapo | grpo | dr_grpo"), std::string_view::npos) << names_by_method();
  EXPECT_EQ(resolved(Method::kGrpo, {}).loss_type, std::vector<std::string>{"dapo"});
  EXPECT_TRUE(resolved(Method::kReward, {}).loss_type.empty());
}

TEST(LossOptions, UnknownNamesAreRefusedWithTheKnownOnes) {
  const auto starts_with = [](const std::string& message, const std::string& start) {
    EXPECT_EQ(message.substr(0, start.size()), start);
  };
  starts_with(refusal(Method::kSft, {.loss_type = {"dft?"}}),
              "loss.loss_type 'dft?' is unknown for method sft: this version has nll");
  starts_with(refusal(Method::kDpo, {.loss_type = {"ipo?"}}),
              "loss.loss_type 'ipo?' is unknown for method dpo: this version has sigmoid");
  starts_with(refusal(Method::kGrpo, {.loss_type = {"cispo?"}}),
              "loss.loss_type 'cispo?' is unknown for method grpo: this version has dapo | grpo | dr_grpo");
  EXPECT_EQ(refusal(Method::kReward, {.loss_type = {"sigmoid"}}),
            "loss.loss_type is 'sigmoid', but method reward has one loss only: leave it out");
  EXPECT_EQ(refusal(Method::kGrpo, {.importance_sampling_level = "word"}),
            "loss.importance_sampling_level 'word' is unknown for method grpo: this version has token | sequence");
  EXPECT_EQ(refusal(Method::kGrpo, {.scale_rewards = "true"}),
            "loss.scale_rewards 'true' is unknown for method grpo: this version has group | batch | none");
}

TEST(LossOptions, NumbersOutOfRangeAreRefusedByKey) {
  const std::string rest = ": use a finite number of 0 or more, or leave it out";
  EXPECT_EQ(refusal(Method::kDpo, {.beta = -0.5}), "loss.beta is -0.5" + rest);
  EXPECT_EQ(refusal(Method::kGrpo, {.beta = NAN}), "loss.beta is nan" + rest);
  EXPECT_EQ(refusal(Method::kGrpo, {.epsilon = -0.2}), "loss.epsilon is -0.2" + rest);
  EXPECT_EQ(refusal(Method::kGrpo, {.epsilon_high = INFINITY}), "loss.epsilon_high is inf" + rest);
  EXPECT_EQ(refusal(Method::kReward, {.center_rewards_coefficient = -3}),
            "loss.center_rewards_coefficient is -3" + rest);
  EXPECT_EQ(refusal(Method::kGrpo, {.max_completion_length = 0}), "loss.max_completion_length is 0: use 1 or more");
}

TEST(LossOptions, ListsAreForDpoAndWeighedOneByOne) {
  const LossOptions two = resolved(Method::kDpo, {.loss_type = {"sigmoid", "sft"}});
  EXPECT_EQ(two.loss_weights, (std::vector<double>{1, 1}));
  EXPECT_EQ(refusal(Method::kDpo, {.loss_type = {"sigmoid", "sft"}, .loss_weights = {1.0}}),
            "loss.loss_weights has 1 entries, loss.loss_type 2: give one a loss");
  EXPECT_EQ(refusal(Method::kGrpo, {.loss_type = {"dapo", "grpo"}}),
            "loss.loss_type lists 2 losses, and method grpo takes one: dpo is the one that adds them up");
  EXPECT_EQ(refusal(Method::kKto, {.loss_weights = {1.0}}),
            "loss.loss_weights weighs a list of losses, and method kto takes one: leave it out");
  EXPECT_EQ(refusal(Method::kDpo, {.loss_type = {"sigmoid", "ipo?"}}).substr(0, 36),
            "loss.loss_type 'ipo?' is unknown for");
}

TEST(LossOptions, WhatALossOfPairsDoesNotReadIsRefused) {
  test::expect_words(refusal(Method::kDpo, {.label_smoothing = 0.1}),
                     {"loss.label_smoothing is 0.1, which sigmoid does not read", "exo_pair | robust | aot"});
  test::expect_words(refusal(Method::kDpo, {.loss_type = {"robust"}, .label_smoothing = 0.5}), {"0.5", "below 0.5"});
  test::expect_words(refusal(Method::kDpo, {.loss_type = {"exo_pair"}}), {"exo_pair takes its logarithm", "0.001"});
  test::expect_words(refusal(Method::kDpo, {.loss_type = {"hinge", "aot"}, .f_divergence_type = "forward_kl"}),
                     {"loss.f_divergence_type is forward_kl, and aot is defined for reverse_kl alone"});
  test::expect_words(refusal(Method::kDpo, {.f_divergence_type = "kl"}), {"loss.f_divergence_type 'kl' is unknown"});
  test::expect_words(refusal(Method::kDpo, {.ld_alpha = 1.5}), {"loss.ld_alpha is 1.5: use 0 to 1"});
  test::expect_words(refusal(Method::kDpo, {.loss_type = {"ipo"}, .beta = 0}), {"loss.beta is 0: ipo divides by it"});
  test::expect_words(refusal(Method::kDpo, {.loss_type = {"sft"}, .use_weighting = true}),
                     {"loss.use_weighting weighs pairs, and the terms of sft"});
  test::expect_words(refusal(Method::kDpo, {.discopop_tau = 0}), {"loss.discopop_tau is 0"});
  test::expect_words(refusal(Method::kCpo, {.loss_type = {"hinge"}, .label_smoothing = 0.1}),
                     {"which hinge does not read", "sigmoid | simpo"});
  test::expect_words(refusal(Method::kCpo, {.label_smoothing = 2}), {"loss.label_smoothing is 2: use 0 to 1"});
  test::expect_words(refusal(Method::kCpo, {.kl_weight = 0.1}), {"loss.kl_weight is 0.1, which sigmoid does not read"});
  test::expect_words(refusal(Method::kCpo, {.loss_type = {"comparative"}, .kl_weight = -1}), {"use 0 or more"});
  test::expect_words(
      refusal(Method::kCpo, {.loss_type = {"comparative"}, .precompute_ref_log_probs = true, .kl_weight = 1}),
      {"loss.precompute_ref_log_probs drops the reference", "loss.kl_weight"});
  test::expect_words(refusal(Method::kCpo, {.loss_type = {"simpo"}, .beta = 0}), {"simpo divides by it"});
}

TEST(LossOptions, PolicyGradientsRefuseWhatIsOutOfRange) {
  test::expect_words(refusal(Method::kGrpo, {.delta = 0.9}), {"loss.delta is 0.9: use a finite number above 1"});
  test::expect_words(refusal(Method::kGrpo, {.sapo_temperature_neg = 0}), {"loss.sapo_temperature_neg is 0"});
  test::expect_words(refusal(Method::kGrpo, {.top_entropy_quantile = 1.1}), {"loss.top_entropy_quantile", "0 to 1"});
  test::expect_words(refusal(Method::kGrpo, {.entropy_coef = -0.1}), {"loss.entropy_coef is -0.1"});
}

TEST(LossOptions, PrefixRftRefusesWhatItCannotBe) {
  const auto refused = [](LossOptions options, const std::vector<std::string>& words) {
    if (options.prefix_advantage.empty()) options.prefix_advantage = "dr_grpo";
    test::expect_words(refusal(Method::kGrpo, options), words);
  };
  refused({.prefix_advantage = "grpo"}, {"loss.prefix_advantage 'grpo' is unknown", "dr_grpo | batch"});
  refused({.prefix_entropy_scope = "pack"}, {"loss.prefix_entropy_scope 'pack'", "step | sample"});
  refused({.prefix_entropy_keep = 20}, {"loss.prefix_entropy_keep is 20: use 0 to 1"});
  refused({.loss_type = {"cispo"}}, {"loss_type cispo has none: use dapo"});
  refused({.loss_type = {"sapo"}}, {"loss_type sapo has none"});
  refused({.importance_sampling_level = "sequence"}, {"loss.importance_sampling_level: token"});
  refused({.top_entropy_quantile = 0.5}, {"loss.top_entropy_quantile both choose"});
  const LossOptions known = resolved(Method::kGrpo, {.prefix_advantage = "batch"});
  EXPECT_EQ(known.delta, 3) << "the dual clip";
  EXPECT_EQ(resolved(Method::kGrpo, known).delta, 3);
  EXPECT_EQ(resolved(Method::kGrpo, {.delta = 5, .prefix_advantage = "batch"}).delta, 5);
}

TEST(LossOptions, WhatCouplesAStepSaysSo) {
  const auto step = [](Method method, const LossOptions& options) { return needs_of(method, options).step; };
  EXPECT_EQ(step(Method::kDpo, {}), StepView::kNone);
  EXPECT_EQ(step(Method::kDpo, {.loss_type = {"sigmoid", "aot"}}), StepView::kSamples);
  EXPECT_EQ(step(Method::kKto, {}), StepView::kMismatched);
  EXPECT_EQ(step(Method::kKto, {.loss_type = {"apo_zero_unpaired"}}), StepView::kNone);
  EXPECT_EQ(step(Method::kGrpo, {.top_entropy_quantile = 0.2}), StepView::kSamples);
  EXPECT_EQ(step(Method::kGrpo, {.prefix_advantage = "dr_grpo"}), StepView::kSamples);
  EXPECT_EQ(step(Method::kGrpo, {.prefix_advantage = "dr_grpo", .prefix_entropy_keep = 1}), StepView::kNone);
  EXPECT_EQ(step(Method::kGrpo, {.prefix_advantage = "dr_grpo", .prefix_entropy_scope = "sample"}), StepView::kNone);
  for (const LossSpec& spec : specs())
    EXPECT_EQ(make_look(spec.method, options_of(spec)) == nullptr,
              needs_of(spec.method, options_of(spec)).step == StepView::kNone)
        << spec.name;
}

TEST(LossOptions, OnlyDpoAndGrpoWithBetaNeedAReference) {
  EXPECT_FALSE(needs_of(Method::kSft, {.beta = 0.1}).reference);
  EXPECT_FALSE(needs_of(Method::kReward, {.beta = 0.1}).reference);
  EXPECT_TRUE(needs_of(Method::kDpo, {}).reference);
  EXPECT_FALSE(needs_of(Method::kGrpo, {}).reference);
  EXPECT_FALSE(needs_of(Method::kGrpo, {.beta = 0.0}).reference);
  EXPECT_TRUE(needs_of(Method::kGrpo, {.beta = 0.04}).reference);
}

}  // namespace
}  // namespace fpdist::loss
