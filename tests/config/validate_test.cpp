#include <functional>
#include <limits>

#include "tests/config/config_file.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::config {
namespace {

using test::expect_words;

using config::Config;

Config good() {
  Config config;
  config.model.preset = "tiny";
  config.data.path = {"a.jsonl"};
  return config;
}

void make_hybrids(Config& config, int64_t count) {
  config.method = Method::kGrpo, config.data.path.clear(), config.rollout.prompts = {"p"};
  config.rollout.num_hybrids = count, config.loss.prefix_advantage = "dr_grpo";
}

std::string said(const std::function<void(Config&)>& spoil) {
  Config config = good();
  spoil(config);
  return test::refusal<ConfigError>([&] { validate(config); });
}

TEST(Validate, AcceptsDefaultsWithAModelAndData) {
  EXPECT_EQ(said([](Config&) {}), "accepted");
}

TEST(Validate, EveryBadMixtureNamesItsKey) {
  const std::vector<std::pair<std::string, std::function<void(Config&)>>> bad = {
      {"data.mixture names b.jsonl, which is no entry of data.path",
       [](Config& c) {
         c.data.mixture = {{"b.jsonl", "1"}};
       }},
      {"data.mixture has a.jsonl: 0;",
       [](Config& c) {
         c.data.mixture = {{"a.jsonl", "0"}};
       }},
      {"data.mixture has a.jsonl: twice;",
       [](Config& c) {
         c.data.mixture = {{"a.jsonl", "twice"}};
       }},
      {"data.mixture has a.jsonl: nan;",
       [](Config& c) {
         c.data.mixture = {{"a.jsonl", "nan"}};
       }},
      {"data.mixture has a.jsonl: 2000;",
       [](Config& c) {
         c.data.mixture = {{"a.jsonl", "2000"}};
       }},
      {"data.train_on_all is true and the method dpo",
       [](Config& c) { c.data.train_on_all = true, c.method = Method::kDpo; }},
  };
  for (const auto& [words, spoil] : bad) expect_words(said(spoil), {words});
}

TEST(Validate, WhatKtoCannotDoWithout) {
  expect_words(said([](Config& c) { c.method = Method::kKto, c.train.groups_per_step = 1; }),
               {"train.groups_per_step is 1, and kto compares each prompt with another row's answer: use 2 or more"});
  expect_words(said([](Config& c) { c.method = Method::kKto, c.loss.precompute_ref_log_probs = true; }),
               {"loss.precompute_ref_log_probs drops the reference, and kto asks it in every step"});
}

TEST(Validate, EveryBadValueNamesItsKey) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::pair<std::string, std::function<void(Config&)>>> bad = {
      {"no model", [](Config& c) { c.model.preset.clear(); }},
      {"both model.path", [](Config& c) { c.model.path.push_back('x'); }},
      {"model.preset", [](Config& c) { c.model.preset = "huge"; }},
      {"pack.max_in_flight is -1", [](Config& c) { c.pack.max_in_flight = -1; }},
      {"comm.transport is 'pigeon'; use nccl or staged", [](Config& c) { c.comm.transport = "pigeon"; }},
      {"comm.nccl_max_ctas is -1", [](Config& c) { c.comm.nccl_max_ctas = -1; }},
      {"use auto, cpu or cuda", [](Config& c) { c.model.device = "tpu"; }},
      {"data.path is empty", [](Config& c) { c.data.path.clear(); }},
      {"data.path holds an empty name", [](Config& c) { c.data.path.push_back(""); }},
      {"data.max_length is 1", [](Config& c) { c.data.max_length = 1; }},
      {"loss.loss_type", [](Config& c) { c.loss.loss_type = {"hinge?"}; }},
      {"train.groups_per_step", [](Config& c) { c.train.groups_per_step = 0; }},
      {"train.max_steps", [](Config& c) { c.train.max_steps = -1; }},
      {"train.output_dir", [](Config& c) { c.train.output_dir.clear(); }},
      {"train.logging_steps", [](Config& c) { c.train.logging_steps = 0; }},
      {"train.save_steps", [](Config& c) { c.train.save_steps = -1; }},
      {"train.report_to has 'wandb'; there are jsonl (output_dir/metrics.jsonl), tensorboard",
       [](Config& c) {
         c.train.report_to = {"jsonl", "wandb"};
       }},
      {"other services read TensorBoard's files", [](Config& c) { c.train.report_to = {"mlflow"}; }},
      {"train.peak_tflops", [=](Config& c) { c.train.peak_tflops = nan; }},
      {"train.comm_timeout_seconds", [](Config& c) { c.train.comm_timeout_seconds = 0; }},
      {"train.comm_timeout_seconds", [](Config& c) { c.train.comm_timeout_seconds = 1'000'000'000'000; }},
      {"optim.learning_rate", [](Config& c) { c.optim.learning_rate = -1; }},
      {"optim.adam_beta1", [](Config& c) { c.optim.adam_beta1 = 1; }},
      {"optim.adam_beta2", [](Config& c) { c.optim.adam_beta2 = -0.1; }},
      {"optim.adam_epsilon", [](Config& c) { c.optim.adam_epsilon = 0; }},
      {"optim.weight_decay", [](Config& c) { c.optim.weight_decay = -1; }},
      {"optim.max_grad_norm", [=](Config& c) { c.optim.max_grad_norm = nan; }},
      {"optim.lr_scheduler_type", [](Config& c) { c.optim.lr_scheduler_type = "stairs"; }},
      {"optim.warmup_steps", [](Config& c) { c.optim.warmup_steps = -1; }},
      {"parallel.dp", [](Config& c) { c.parallel.dp = 0; }},
      {"parallel.tp is 0; it must be 1 or more, or -1", [](Config& c) { c.parallel.tp = 0; }},
      {"parallel.schedule is interleaved and parallel.pp is 1",
       [](Config& c) { c.parallel.schedule = plan::Schedule::kInterleaved, c.parallel.virtual_stages = 2; }},
      {"parallel.schedule is 1f1b and parallel.virtual_stages is 2", [](Config& c) { c.parallel.virtual_stages = 2; }},
      {"parallel.virtual_stages is 0", [](Config& c) { c.parallel.virtual_stages = 0; }},
      {"parallel.cp_chunk is 0", [](Config& c) { c.parallel.cp_chunk = 0; }},
      {"parallel.ulysses is -1", [](Config& c) { c.parallel.ulysses = -1; }},
      {"parallel.ulysses is 3, which does not divide parallel.cp 4",
       [](Config& c) { c.parallel.cp = 4, c.parallel.ulysses = 3; }},
      {"train.profile_steps is -1", [](Config& c) { c.train.profile_steps = -1; }},
      {"parallel.cp is 0", [](Config& c) { c.parallel.cp = 0; }},
      {"parallel.pp is -2", [](Config& c) { c.parallel.pp = -2; }},
      {"pack.max_tokens", [](Config& c) { c.pack.max_tokens = 0; }},
      {"pack.slices is -1", [](Config& c) { c.pack.slices = -1; }},
      {"pack.verify_steps", [](Config& c) { c.pack.verify_steps = -1; }},
      {"model.ref_path is ref, but method sft compares with no reference here: leave it out",
       [](Config& c) { c.method = Method::kSft, c.model.ref_path = "ref"; }},
      {"set loss.beta above 0", [](Config& c) { c.method = Method::kGrpo, c.model.ref_path = "ref"; }},
      {"train.final_dtype is 'fp32'; use auto, float32 or bfloat16", [](Config& c) { c.train.final_dtype = "fp32"; }},
      {"plan.calibrate_steps is -1", [](Config& c) { c.plan.calibrate_steps = -1; }},
      {"plan.costs is c.yaml and plan.calibrate_steps is 3: give the file",
       [](Config& c) { c.plan = {.costs = "c.yaml", .calibrate_steps = 3}; }}};
  for (const auto& [words, spoil] : bad) expect_words(said(spoil), {words});
}

TEST(Validate, BadRolloutsNameTheirKeys) {
  const std::vector<std::pair<std::string, std::function<void(Config&)>>> bad = {
      {"both data.path and rollout.prompts", [](Config& c) { c.method = Method::kGrpo, c.rollout.prompts = {"p"}; }},
      {"the method sft learns from no rollouts", [](Config& c) { c.method = Method::kSft, c.rollout.prompts = {"p"}; }},
      {"rollout.num_generations is 1, and",
       [](Config& c) { c.method = Method::kGrpo, c.rollout.prompts = {"p"}, c.rollout.num_generations = 1; }},
      {"rollout.num_hybrids is 1 and the run makes no rollouts", [](Config& c) { c.rollout.num_hybrids = 1; }},
      {"rollout.num_hybrids is 8 of rollout.num_generations 8", [](Config& c) { make_hybrids(c, 8); }},
      {"loss.prefix_advantage is not given", [](Config& c) { make_hybrids(c, 1), c.loss.prefix_advantage = ""; }},
      {"nobody has sampled the demonstrations", [](Config& c) { make_hybrids(c, 1), c.rollout.old_logps = "sampled"; }},
      {"unknown rollout.prefix_low 'some'", [](Config& c) { c.rollout.prefix_low = "some,1"; }},
      {"rollout.prefix_high is 0.95: write DECAY,FIRST", [](Config& c) { c.rollout.prefix_high = "0.95"; }},
      {"rollout.prefix_high has x where a number is wanted", [](Config& c) { c.rollout.prefix_high = "const,x"; }},
      {"rollout.prefix_low: shares of a demonstration go from 0 to 1",
       [](Config& c) { c.rollout.prefix_low = "const,2"; }},
      {"rollout.temperature is 0; it must be above 0", [](Config& c) { c.rollout.temperature = 0; }},
      {"rollout.old_logps is 'some'", [](Config& c) { c.rollout.old_logps = "some"; }},
      {"data.eval_fraction takes rows of data.path",
       [](Config& c) { c.method = Method::kGrpo, c.rollout.prompts = {"p"}, c.data.eval_fraction = 0.5; }},
      {"reward.functions has 'judge'; built in are exact", [](Config& c) { c.reward.functions = {"judge"}; }},
      {"flex_prefill.gamma is 0.9, and nothing is evaluated by generating",
       [](Config& c) { c.flex_prefill.gamma = 0.9; }},
      {"flex_prefill.window 100 is no multiple of flex_prefill.block_size 128",
       [](Config& c) { c.flex_prefill.window = 100; }},
      {"flex_prefill.max_budget is 10 and flex_prefill.min_budget 1024",
       [](Config& c) { c.flex_prefill.max_budget = 10; }},
      {"eval.kv_budget is 0.5, and nothing is evaluated by generating", [](Config& c) { c.eval.kv_budget = 0.5; }},
      {"eval.kv_budget is 0.5 and flex_prefill.gamma 0.9: leave out one",
       [](Config& c) { c.eval.kv_budget = 0.5, c.flex_prefill.gamma = 0.9; }},
      {"eval.kv_profile is kv.json, and nothing is evaluated by generating",
       [](Config& c) { c.eval.kv_profile = "kv.json"; }},
      {"eval.kv_profile is kv.json and flex_prefill.gamma 0.9: leave out one",
       [](Config& c) { c.eval.kv_profile = "kv.json", c.flex_prefill.gamma = 0.9; }},
      {"eval.kv_budget is 1.5", [](Config& c) { c.eval.kv_budget = 1.5; }},
      {"flex_prefill.gamma is 2", [](Config& c) { c.flex_prefill.gamma = 2; }},
      {"eval.pass_at has 8 and eval.num_generations is 1", [](Config& c) { c.eval.pass_at = {8}; }},
      {"reward.max_penalty is 1; a penalty is 0 or less", [](Config& c) { c.reward.max_penalty = 1; }},
      {"eval.pass_at has 0", [](Config& c) { c.eval.pass_at = {0}; }}};
  for (const auto& [words, spoil] : bad) expect_words(said(spoil), {words});
}

TEST(Validate, LengthLearningRatesAndEvaluationsFitTogether) {
  const std::vector<std::pair<std::string, std::function<void(Config&)>>> bad = {
      {"train.num_train_epochs is -1", [](Config& c) { c.train.num_train_epochs = -1; }},
      {"optim.warmup_ratio is 1.5", [](Config& c) { c.optim.warmup_ratio = 1.5; }},
      {"optim.lr_scheduler_kwargs.power: linear",
       [](Config& c) {
         c.optim.lr_scheduler_kwargs = {{"power", "2"}};
       }},
      {"optim.learning_rates: a has the rate x",
       [](Config& c) {
         c.optim.learning_rates = {{"a", "x"}};
       }},
      {"both data.eval_path and data.eval_fraction are given",
       [](Config& c) { c.data.eval_path = {"e.jsonl"}, c.data.eval_fraction = 0.1; }},
      {"data.eval_fraction is 1;", [](Config& c) { c.data.eval_fraction = 1; }},
      {"train.eval_steps is 5, but there is nothing to evaluate on", [](Config& c) { c.train.eval_steps = 5; }},
      {"train.load_best_model_at_end needs evaluations on the way: give train.eval_steps",
       [](Config& c) { c.data.eval_fraction = 0.1, c.train.load_best_model_at_end = true; }},
      {"train.early_stopping_patience needs evaluations on the way",
       [](Config& c) { c.train.early_stopping_patience = 2; }}};
  for (const auto& [words, spoil] : bad) expect_words(said(spoil), {words});
}

TEST(Validate, SaysEverythingAtOnce) {
  expect_words(said([](Config& c) { c.train.max_steps = -1, c.pack.max_tokens = 0, c.parallel.tp = 0; }),
               {"train.max_steps", "pack.max_tokens", "parallel.tp"});
}

}  // namespace
}  // namespace fpdist::config
