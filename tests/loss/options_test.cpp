#include <gtest/gtest.h>

#include <cmath>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/loss.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::loss {
namespace {

std::string refusal(Method method, const LossOptions& options) {
  return test::refusal<ConfigError>([&] { make_loss(method, options); });
}

TEST(LossOptions, DefaultsMakeEveryLoss) {
  for (const LossSpec& spec : specs())
    EXPECT_TRUE(make_loss(spec.method, {.loss_type = std::string(spec.name)})) << name_of(spec.method) << spec.name;
}

TEST(LossOptions, TheFirstLossOfAMethodIsItsDefault) {
  EXPECT_TRUE(names_by_method().starts_with("sft: nll")) << names_by_method();
  EXPECT_NE(names_by_method().find("; grpo: dapo | grpo | dr_grpo"), std::string_view::npos) << names_by_method();
  EXPECT_EQ(resolved(Method::kGrpo, {}).loss_type, "dapo");
  EXPECT_EQ(resolved(Method::kReward, {}).loss_type, "");
}

TEST(LossOptions, UnknownNamesAreRefusedWithTheKnownOnes) {
  const auto starts_with = [](const std::string& message, const std::string& start) {
    EXPECT_EQ(message.substr(0, start.size()), start);
  };
  starts_with(refusal(Method::kSft, {.loss_type = "dft?"}),
              "loss.loss_type 'dft?' is unknown for method sft: this version has nll");
  starts_with(refusal(Method::kDpo, {.loss_type = "ipo?"}),
              "loss.loss_type 'ipo?' is unknown for method dpo: this version has sigmoid");
  starts_with(refusal(Method::kGrpo, {.loss_type = "cispo?"}),
              "loss.loss_type 'cispo?' is unknown for method grpo: this version has dapo | grpo | dr_grpo");
  EXPECT_EQ(refusal(Method::kReward, {.loss_type = "sigmoid"}),
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
