#include "src/loss/score_columns.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"

namespace fpdist::loss {
namespace {

ScoreColumns columns_of(const Needs& needs) {
  const auto column = [](bool is_there, double value) {
    return is_there ? at::full({3}, value, at::kDouble) : at::Tensor();
  };
  return {.logp = at::tensor({-1.0, -2.0, -3.0}, at::kDouble),
          .entropy = column(needs.entropy, 1),
          .correct = column(needs.correct, 0),
          .mean_logit = column(needs.mean_logit, 2),
          .log_sum_sq = column(needs.log_sum_sq, 3),
          .ref_logp = column(needs.reference, 4),
          .base_kl = column(needs.base_kl, 5)};
}

TEST(ScoreColumns, ArriveUnderTheNamesTheyWereSentBy) {
  for (const LossSpec& spec : specs())
    for (const bool reference : {false, true}) {
      Needs needs = needs_of(
          spec.method, {.loss_type = {std::string(spec.name)}, .label_smoothing = spec.name == "exo_pair" ? 0.1 : 0.0});
      needs.reference = needs.log_sum_sq = needs.base_kl = reference;
      const ScoreColumns sent = columns_of(needs), arrived = unstack(stack(sent), needs);
      for (const auto column :
           {&ScoreColumns::logp, &ScoreColumns::entropy, &ScoreColumns::correct, &ScoreColumns::mean_logit,
            &ScoreColumns::log_sum_sq, &ScoreColumns::ref_logp, &ScoreColumns::base_kl}) {
        ASSERT_EQ((arrived.*column).defined(), (sent.*column).defined());
        EXPECT_TRUE(!(sent.*column).defined() || (arrived.*column).equal(sent.*column));
      }
    }
}

TEST(ScoreColumns, ThatNobodyOrSomebodyElseNeedsAreRefused) {
  const Needs sft, dpo{.mean_logit = true, .reference = true};
  EXPECT_THROW(unstack(stack(columns_of(sft)), dpo), ShapeError);
  EXPECT_THROW(unstack(stack(columns_of(dpo)), sft), ShapeError);
}

TEST(ScoreColumns, GiveEveryEdgeItsScoresValuesAndTakeItsGradient) {
  ScoreColumns scores = columns_of({.mean_logit = true});
  scores.logp.set_requires_grad(true);
  Edges edges;
  edges.ref_logp = at::full({4}, -5.0, at::kDouble);  // from the data
  give_to_edges(scores, at::tensor({2, 0, 0, 1}, at::kLong), edges);
  EXPECT_TRUE(edges.logp.equal(at::tensor({-3.0, -1.0, -1.0, -2.0}, at::kDouble)));
  EXPECT_TRUE(edges.mean_logit.equal(at::full({4}, 2.0, at::kDouble)));
  EXPECT_TRUE(edges.ref_logp.equal(at::full({4}, -5.0, at::kDouble)));
  edges.logp.sum().backward();
  EXPECT_TRUE(scores.logp.grad().equal(at::tensor({2.0, 1.0, 1.0}, at::kDouble)));
}

}  // namespace
}  // namespace fpdist::loss
