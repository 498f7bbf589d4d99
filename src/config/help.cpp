// --help: the keys as the sections have them, with what a section looks like in a file.

#include "src/config/help.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "src/config/keys.hpp"
#include "src/config/names.hpp"

namespace fpdist::config {
namespace {

constexpr std::string_view kNames = "names";

constexpr const char* kUsage =
    "[mpirun -np RANKS] fpdist_train [--config] FILE.yaml [--section.key value ...]\n\n"
    "  --plan          print sharing, packs, cost and memory of the first step; train nothing\n"
    "  --print-config  print the resolved configuration; train nothing\n"
    "  --quiet         train, and say warnings and errors alone\n"
    "  --help [TOPIC]  this text, or that of a section (--help data), of a key (--help train.seed), or the names\n"
    "                  that other trainers have for keys (--help names)\n"
    "  --version       version, commit, torch, MPI and CUDA\n\n"
    "Defaults < file < command line. '-' and '_' are alike; --x and --no-x for true-or-false keys;\n"
    "lists as a,b or by repeating the key. In the file a key stands inside its section. Paths are relative to the\n"
    "folder that the program is started in, those of the file as well. Lengths are in tokens, times in seconds.\n";

/// (section, what one looks like)
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kExamples{
    {{"", "method: dpo"},
     {"model", "model: { path: models/llama, dtype: bfloat16, gradient_checkpointing: true }"},
     {"adapter", "adapter: { type: lora, r: 16, lora_alpha: 32, target_modules: all-linear }"},
     {"data", "data: { path: [pairs.jsonl, more/], eval_fraction: 0.02, max_length: 2048 }"},
     {"loss", "loss: { loss_type: sigmoid, beta: 0.1 }"},
     {"rollout", "rollout: { prompts: [questions.jsonl], num_generations: 8, max_completion_length: 256 }"},
     {"reward", "reward: { functions: [gsm8k, length], weights: [1, 0.1] }"},
     {"eval", "eval: { num_generations: 8, temperature: 1, pass_at: [1, 8] }"},
     {"train", "train: { groups_per_step: 64, num_train_epochs: 2, save_steps: 100, output_dir: runs/mine }"},
     {"optim", "optim: { learning_rate: 5e-6, lr_scheduler_type: cosine, warmup_ratio: 0.1 }"},
     {"parallel", "parallel: { dp: -1, pp: 2, tp: 2, schedule: zb-h1 }"},
     {"pack", "pack: { max_tokens: 16384, verify_steps: 2 }"},
     {"comm", "comm: { transport: nccl }"},
     {"plan", "plan: { calibrate_steps: 5 }"}}};

std::string key_text(const ConfigKey& key) {
  Config defaults;
  const std::string shown = scalar_text(key.field(defaults));
  const bool is_by_method = key.name == "optim.learning_rate";
  return text("  --", key.name, " (",
              is_by_method    ? "by method"
              : shown.empty() ? "empty"
                              : shown,
              ")\n      ", key.key->meaning, "; ", values_of(key), "\n");
}

std::string example_of(std::string_view section) {
  const auto found =
      std::find_if(kExamples.begin(), kExamples.end(), [&](const auto& one) { return one.first == section; });
  return found == kExamples.end() ? "" : text("  example:  ", found->second, "\n");
}

}  // namespace

bool is_help_topic(std::string_view topic) {
  return topic == kNames || std::any_of(keys().begin(), keys().end(), [&](const ConfigKey& key) {
           return key.name == topic || (!key.section.empty() && key.section == topic);
         });
}

std::string help_text(const std::string& topic) {
  if (topic == kNames) return other_names_text();
  std::string out;
  if (topic.empty()) out.append(kUsage);
  std::string_view section = "none";
  for (const ConfigKey& key : keys()) {
    if (!topic.empty() && key.section != topic && key.name != topic) continue;
    if (key.section != section) {
      if (!out.empty()) out.push_back('\n');
      out.append(example_of(key.section));
    }
    section = key.section;
    out += key_text(key);
  }
  check<ConfigError>(!out.empty(), "--help ", topic, ": there is no such section or key; --help lists all");
  return out;
}

}  // namespace fpdist::config
