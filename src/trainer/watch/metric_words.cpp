#include "src/trainer/watch/metric_words.hpp"

#include <algorithm>
#include <utility>

namespace fpdist::trainer {
namespace {

constexpr std::pair<std::string_view, std::string_view> kMeanings[] = {
    {"step", "optimizer steps done"},
    {"loss", "the method's loss over the step"},
    {"grad_norm", "gradient norm before clipping"},
    {"learning_rate", "learning rate of the step"},
    {"epoch", "times through the data"},
    {"rewards/chosen", "mean implicit reward of chosen answers"},
    {"rewards/rejected", "mean implicit reward of rejected answers"},
    {"rewards/margins", "mean reward of chosen less rejected answers"},
    {"rewards/accuracies", "share of pairs whose chosen answer has the higher reward"},
    {"logps/chosen", "mean log-probability of chosen answers"},
    {"logps/rejected", "mean log-probability of rejected answers"},
    {"accuracy", "share of pairs whose chosen answer has the higher score"},
    {"margin", "mean score of chosen less rejected answers"},
    {"mean_token_accuracy", "share of tokens that are the likeliest"},
    {"perplexity", "exp of the mean loss of a token"},
    {"entropy", "mean entropy of the next token, in nats"},
    {"reward", "mean reward of a rollout"},
    {"reward_std", "standard deviation of rewards in a group"},
    {"frac_reward_zero_std", "share of rollouts whose group has one reward"},
    {"completions/mean_length", "mean tokens of a completion"},
    {"completions/clipped_ratio", "share of completions that were cut"},
    {"rollout/seconds", "seconds of making and judging a round of rollouts"},
    {"rollout/judge_wait_seconds", "seconds that a round waited for judges when all was decoded"},
    {"rollout/tokens_per_second", "tokens a second of a round of rollouts"},
    {"flex_prefill/kept_share", "share of the pairs of blocks that FlexPrefill kept"},
    {"flex_prefill/logp_difference/mean", "mean change of log-probs by FlexPrefill, in nats"},
    {"flex_prefill/logp_difference/max", "largest change of a log-prob by FlexPrefill, in nats"},
    {"prefix_kv/kept_share", "share of the prompts' own keys that PrefixKV kept"},
    {"kl", "mean divergence from the reference"},
    {"seconds", "seconds of the whole step"},
    {"measured_seconds", "seconds from the first to the last pack operation, slowest rank"},
    {"planned_seconds", "the plan's seconds from the first to the last pack operation"},
    {"tokens_per_second", "logical tokens a second of the whole step"},
    {"mfu", "model FLOPs of the computed rows over the peak"},
    {"tokens_logical", "tokens of all samples of the step"},
    {"tokens_computed", "rows computed for the step's samples"},
    {"num_tokens", "logical tokens since the start"},
    {"sharing_ratio", "logical over computed tokens"},
    {"sharing_possible", "logical over distinct tokens of the step"},
    {"bubble", "share of the measured time in which ranks were in no operation"},
    {"planned_bubble", "the plan's share of time in which ranks are in no operation"},
    {"replica_imbalance", "busiest over mean replica, in time"},
    {"planned_replica_imbalance", "busiest over mean replica, as planned"},
    {"stage_imbalance", "busiest over mean pipeline stage, in time"},
    {"plan_seconds", "seconds of planning the step on its thread"},
    {"plan_wait_seconds", "seconds that the step waited for its plan"},
    {"exposed_communication", "share of the ranks' time in communication that compute did not hide"},
    {"memory/peak_bytes", "most bytes of the allocator on any rank"},
    {"memory/bytes", "bytes of the allocator on the fullest rank"},
};

constexpr std::string_view kEval = "eval_";

}  // namespace

std::string_view meaning_of(std::string_view metric) {
  if (metric.starts_with(kEval)) metric.remove_prefix(kEval.size());
  const auto found = std::find_if(std::begin(kMeanings), std::end(kMeanings),
                                  [&](const auto& known) { return known.first == metric; });
  return found == std::end(kMeanings) ? std::string_view() : found->second;
}

}  // namespace fpdist::trainer
