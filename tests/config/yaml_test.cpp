#include <algorithm>
#include <random>

#include "src/config/keys.hpp"
#include "tests/config/config_file.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::config {
namespace {

using test::ConfigFile, test::error_in, test::expect_words, test::kGoodConfig, test::refusal_of;

TEST(Yaml, OverridesDefaultsAndKeepsTheRest) {
  const ConfigFile file(
      "method: dpo\nmodel: { preset: tiny, dtype: bfloat16 }\ndata:\n  path: [a.jsonl, b.jsonl]\n  columns: { chosen: "
      "good }\n"
      "optim: { learning_rate: 1e-6 }\ntrain:\n  max-steps: 7\n  seed: 18446744073709551615\n");
  const config::Config config = parse_command_line({file.path()}).config;
  EXPECT_EQ(config.method, Method::kDpo);
  EXPECT_EQ(config.model.dtype, DType::kBFloat16);
  EXPECT_EQ(config.data.path, (std::vector<std::string>{"a.jsonl", "b.jsonl"}));
  EXPECT_EQ(config.data.columns.at("chosen"), "good");
  EXPECT_EQ(config.optim.learning_rate, 1e-6);
  EXPECT_EQ(config.train.max_steps, 7);
  EXPECT_EQ(config.train.seed, 18446744073709551615u);
  EXPECT_EQ(config.train.groups_per_step, trainer::TrainOptions().groups_per_step);
}

TEST(Yaml, UnknownKeysAreNamedWithPlaceAndNearestKey) {
  expect_words(error_in(kGoodConfig + "train:\n  max_step: 3\n"),
               {"FILE:4:3: unknown key 'train.max_step'", "train.max_steps?"});
  expect_words(error_in(kGoodConfig + "trian: { seed: 1 }\n"),
               {"FILE:3:1: unknown key 'trian'", "did you mean train?"});
  expect_words(error_in(kGoodConfig + "seed: 1\n"), {"FILE:3:1", "unknown key 'seed'"});
  expect_words(error_in(kGoodConfig + "train.seed: 1\n"), {"FILE:3:1", "inside the section 'train:'"});
  expect_words(error_in(kGoodConfig + "zzzzzzzzzzzz: 1\n"), {"FILE:3:1", "--help lists"});
}

TEST(Yaml, KeysOfOtherSystemsPointToOurs) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> hints = {
      {"pack.max_tokens", {"micro_batch_size", "micro_train_batch_size", "packing_max_length", "max_tokens"}},
      {"train.groups_per_step",
       {"per_device_train_batch_size", "per_gpu_train_batch_size", "gradient_accumulation_steps", "train_batch_size",
        "global_batch_size", "batch_size", "grad_accum", "grad_accumulation_steps", "per_device_eval_batch_size",
        "eval_batch_size"}},
      {"train.num_train_epochs", {"num_epochs", "max_epochs", "epochs", "n_epochs", "num_train_epochs"}},
      {"train.max_steps", {"train_iters", "steps", "num_steps", "max_iters", "total_steps", "num_training_steps"}},
      {"train.logging_steps", {"log_steps", "log_interval", "log_every_n_steps"}},
      {"train.eval_steps",
       {"eval_strategy", "evaluation_strategy", "evals_per_epoch", "eval_interval", "eval_freq", "val_check_interval",
        "do_eval", "run_eval_every_n_steps"}},
      {"train.save_strategy", {"save_strategy"}},
      {"train.save_steps", {"save_interval", "saves_per_epoch", "save_freq", "save_every", "checkpoint_interval"}},
      {"train.save_total_limit", {"max_ckpt_num", "keep_last_n", "max_checkpoints"}},
      {"train.resume_from_checkpoint",
       {"resume", "auto_resume_from_checkpoints", "load_checkpoint", "resume_checkpoint", "resume_checkpoint_path"}},
      {"train.early_stopping_patience", {"early_stopping", "early_stopping_steps", "patience"}},
      {"train.metric_for_best_model", {"best_metric", "monitor"}},
      {"train.on_nan", {"check_for_nan_in_loss_and_grad", "logging_nan_inf_filter"}},
      {"train.on_spike", {"loss_watchdog_threshold", "loss_watchdog_patience"}},
      {"train.report_to", {"use_wandb", "use_tensorboard", "tensorboard_dir", "logger"}},
      {"train.output_dir", {"save_path"}},
      {"data.eval_path",
       {"eval_dataset", "eval_dataset_name", "eval_file", "validation_file", "val_files", "test_datasets"}},
      {"data.eval_fraction", {"val_set_size", "val_size", "test_size", "eval_split", "validation_split"}},
      {"data.max_length",
       {"sequence_len", "seq_len", "seq_length", "cutoff_len", "max_len", "max_seq_len", "max_seq_length"}},
      {"loss.beta", {"pref_beta", "dpo_beta", "kl_coef"}},
      {"model.path", {"model_name_or_path", "base_model", "pretrain"}},
      {"optim.learning_rate", {"learning-rate", "lr", "actor_learning_rate"}},
      {"optim.learning_rates", {"embedding_lr", "lr_groups", "learning_rate_groups"}},
      {"optim.lr_scheduler_type", {"lr_scheduler", "scheduler", "lr_decay_style"}},
      {"optim.lr_scheduler_kwargs",
       {"scheduler_kwargs", "min_lr", "min_lr_rate", "cosine_min_lr_ratio", "lr_min_ratio", "lr_wsd_decay_iters"}},
      {"optim.warmup_steps", {"lr_warmup_steps", "lr_warmup_iters", "warmup_iters", "num_warmup_steps"}},
      {"optim.warmup_ratio", {"warmup_ratio", "lr_warmup_ratio", "lr_warmup_fraction", "warmup_fraction"}},
      {"optim.max_grad_norm", {"clip_grad", "gradient_clipping"}},
      {"optim.adam_epsilon", {"adam_eps", "eps"}}};
  for (const auto& [ours, all] : hints)
    for (const std::string& theirs : all) {
      expect_words(error_in(kGoodConfig + theirs + ": 1\n"), {"it is " + ours + " here"});
      if (find_key("train." + theirs)) continue;  // there it is ours
      expect_words(error_in(kGoodConfig + "train: { " + theirs + ": 1 }\n"), {"it is " + ours + " here"});
    }
}

TEST(Yaml, DuplicatesAreErrorsAtEveryLevel) {
  expect_words(error_in(kGoodConfig + "train: { seed: 1 }\ntrain: { seed: 2 }\n"), {"FILE:4:1: duplicate key 'train'"});
  expect_words(error_in(kGoodConfig + "train:\n  seed: 1\n  seed: 2\n"), {"FILE:5:3: duplicate key 'train.seed'"});
  expect_words(error_in(kGoodConfig + "train: { max-steps: 1, max_steps: 2 }\n"), {"duplicate key 'train.max_steps'"});
  expect_words(error_in("model: { preset: tiny }\ndata: { path: a, columns: { x: y, x: z } }\n"),
               {"duplicate key 'data.columns.x'"});
}

TEST(Yaml, WrongTypesNameTheExpectedType) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"train: { max_steps: 1.5 }", "train.max_steps: expected an integer, got '1.5'"},
      {"train: { max_steps: many }", "expected an integer, got 'many'"},
      {"train: { max_steps: 99999999999999999999 }", "expected an integer"},
      {"train: { seed: -1 }", "expected an integer, 0 or more, got '-1'"},
      {"train: { max_steps: [1] }", "expected an integer, got a list"},
      {"train: { max_steps: }", "expected an integer, got nothing"},
      {"train: { overwrite_output_dir: 1 }", "expected true or false, got '1'"},
      {"optim: { learning_rate: fast }", "expected a number, got 'fast'"},
      {"optim: { learning_rate: .inf }", "expected a number"},
      {"optim: { learning_rate: nan }", "expected a number"},
      {"method: ppo", "expected sft, dpo, reward, grpo, kto, cpo, orpo or prm, got 'ppo'"},
      {"loss: { loss_type: { a: b } }", "expected one text or a list of them, got a map"},
      {"parallel: { dp: 3000000000 }", "expected an integer"},
      {"train: 3", "section 'train' must hold keys"},
      {"[a]: 3", "plain word"}};
  for (const auto& [line, what] : wrong) expect_words(error_in(kGoodConfig + line + "\n"), {"FILE:3:", what});
  expect_words(error_in("model: { dtype: half }\n"), {"FILE:1:17: model.dtype: 'half': float16 is not here"});
  expect_words(error_in("data: { path: { a: b } }\n"), {"expected one text or a list of them, got a map"});
  expect_words(error_in("data: { path: [[a]] }\n"), {"got a list or map inside"});
  expect_words(error_in("data: { columns: a }\n"), {"expected a map of texts, got 'a'"});
}

TEST(Yaml, AllErrorsOfAFileAreListedAtOnce) {
  const std::string what = error_in("methd: dpo\ntrain: { seed: x, max_step: 1 }\noptim: { lr: 1 }\n");
  expect_words(what, {"FILE:1:1", "FILE:2:16", "FILE:2:19", "FILE:3:10"});
  EXPECT_EQ(std::count(what.begin(), what.end(), '\n'), 3);
}

TEST(Yaml, FilesThatAreNoConfigurationAreErrors) {
  expect_words(refusal_of({"no/such/file.yaml"}), {"no/such/file.yaml", "cannot be read"});
  expect_words(refusal_of({std::filesystem::temp_directory_path().string()}), {"cannot be read"});
  expect_words(error_in("train: { seed: 1\nmodel"), {"FILE:", "not valid YAML"});
  expect_words(error_in("- a\n- b\n"), {"FILE:1:1", "expected sections"});
  expect_words(error_in(kGoodConfig + "---\n" + kGoodConfig), {"second YAML document"});
  expect_words(error_in(""), {"no model", "data.path"});
}

std::string random_text(std::mt19937_64& random) {
  static const std::vector<std::string> kNasty = {"",   "true",       "1e-6", "null", "~",  "a: b",
                                                  "#x", "é\t\n\"'\\", "-",    "a,b",  " x "};
  return kNasty[random() % kNasty.size()] + "p" + std::to_string(random() % 1000);
}

config::Config random_config(std::mt19937_64& random) {
  const auto unit = [&] { return std::uniform_real_distribution<double>(0, 0.99)(random); };
  const auto flag = [&] { return random() % 2 == 0; };
  const auto count = [&] { return static_cast<int64_t>(1 + random() % 1'000'000); };
  config::Config c;
  c.method = static_cast<Method>(random() % 4);
  if (flag())
    c.model.preset = "tiny";
  else
    c.model.path = random_text(random);
  c.model.seed = random(), c.model.dtype = static_cast<DType>(random() % 3);
  c.model.device = flag() ? "auto" : "cpu", c.model.deterministic = flag();
  c.data.path = {random_text(random)}, c.data.max_length = 1 + count(), c.data.shuffle = flag();
  for (uint64_t i = random() % 3; i > 0; --i) c.data.path.push_back(random_text(random));
  for (uint64_t i = random() % 3; i > 0; --i) c.data.columns[random_text(random)] = random_text(random);
  if (c.method == Method::kDpo && flag()) c.model.ref_path = random_text(random);
  if (c.method == Method::kGrpo) {
    c.loss.loss_type = {flag() ? "dapo" : "grpo"};
    c.loss.epsilon = unit() + 1e-9;
    c.loss.importance_sampling_level = flag() ? "token" : "sequence";
    c.loss.scale_rewards = flag() ? "none" : "batch";
    c.loss.beta = unit();
  }
  c.train.groups_per_step = count(), c.train.max_steps = count(), c.train.seed = random();
  c.train.output_dir = random_text(random), c.train.logging_steps = count(), c.train.save_steps = count();
  c.train.final_dtype = flag() ? "auto" : "float32", c.train.peak_tflops = unit(), c.train.profile_steps = count();
  c.train.comm_timeout_seconds = 1 + count(), c.train.overwrite_output_dir = flag();
  c.optim = {unit() * 1e-7, unit(), unit(), unit() + 1e-300, unit(), unit(), flag() ? "cosine" : "linear"};
  c.optim.warmup_ratio = unit(), c.optim.learning_rates = {{random_text(random), "1e-7"}};
  c.parallel.dp = flag() ? -1 : static_cast<int>(count());
  c.parallel.schedule = flag() ? plan::Schedule::kZeroBubble : plan::Schedule::k1F1B;
  c.parallel.cp_method = flag() ? plan::CpMethod::kRing : plan::CpMethod::kUlysses;
  for (int64_t i = count() % 4; i > 0; --i) c.parallel.layers.push_back(count());
  c.pack = {count(), flag(), static_cast<int>(count()), count()};
  return c;
}

TEST(Yaml, EchoReadsBackToTheSameValue) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(text("seed ", seed));
    std::mt19937_64 random(seed);
    const config::Config config = random_config(random);
    const std::string echo = to_yaml(config);
    const ConfigFile file(echo);
    const config::Config again = parse_command_line({file.path()}).config;
    ASSERT_EQ(to_yaml(again), echo);
    // The echo could forget a field on both ways; compare some of each type for themselves.
    ASSERT_EQ(again.data.path, config.data.path);
    ASSERT_EQ(again.data.columns, config.data.columns);
    ASSERT_EQ(again.model.seed, config.model.seed);
    ASSERT_EQ(again.model.path, config.model.path);
    ASSERT_EQ(again.method, config.method);
    ASSERT_EQ(again.model.dtype, config.model.dtype);
    ASSERT_EQ(again.parallel, config.parallel);
    ASSERT_EQ(again.optim.learning_rate, config.optim.learning_rate);
    ASSERT_EQ(again.train.output_dir, config.train.output_dir);
    ASSERT_EQ(again.pack.share_prefix, config.pack.share_prefix);
  }
}

TEST(Configs, EveryFileParses) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FPDIST_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    SCOPED_TRACE(entry.path());
    EXPECT_EQ(refusal_of({entry.path().string()}), "accepted");
    ++files;
  }
  EXPECT_GE(files, 4);
}

}  // namespace
}  // namespace fpdist::config
