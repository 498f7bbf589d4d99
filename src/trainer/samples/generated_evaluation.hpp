#pragma once
// trainer (private): how good the model is at prompts that it is not trained on.

#include <vector>

#include "fpdist/data/prompts.hpp"
#include "fpdist/generate/options.hpp"
#include "src/trainer/samples/judge.hpp"
#include "src/trainer/samples/run_data.hpp"

namespace fpdist::trainer {

/// Collective. eval_reward and eval_rewards/NAME/mean; eval_accuracy, the share of completions that are right: whose
/// first reward that checks (rewards::is_check) gives 1, or where none checks whose reward is 1 or more; eval_pass@k;
/// eval_completions/*; eval_runtime, eval_samples_per_second; with flex_prefill and prefix_kv what they kept,
/// eval_flex_prefill/kept_share and eval_prefix_kv/kept_share, and of the prompts that flex_prefill.check_prompts had
/// computed with all keys as well eval_flex_prefill/logp_difference/{mean,max}, in nats. The same draws in every
/// evaluation.
StepMetrics evaluate_generated(Trainer& trainer, Judge& judge, const std::vector<data::PromptRow>& prompts,
                               const generate::SamplingOptions& sampling);

}  // namespace fpdist::trainer
