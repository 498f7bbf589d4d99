#include "src/trainer/saving/settings.hpp"

#include <algorithm>
#include <array>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::trainer {
namespace {

constexpr std::string_view kData = "data.";

// The mesh, packs and plans change the order in which the same numbers are added, and how fast; what a row of data is
// is held against the data themselves.
constexpr std::array<std::string_view, 6> kFreeSections{"parallel.", "pack.", "plan.", "comm.", "eval.", kData};
constexpr std::array<std::string_view, 3> kFreeOfModel{"model.device", "model.deterministic",
                                                       "model.gradient_checkpointing"};
// Prompts are held against the rollouts' data themselves; the others say how and not what.
constexpr std::array<std::string_view, 6> kFreeOfRollouts{"rollout.prompts",         "rollout.kv_gib",
                                                          "rollout.max_num_seqs",    "rollout.max_num_batched_tokens",
                                                          "rollout.log_completions", "reward.timeout_seconds"};
// Of a run, what decides which samples its steps have, how many these are and which of them count.
constexpr std::array<std::string_view, 6> kOfTrain{"train.groups_per_step",  "train.seed",     "train.max_steps",
                                                   "train.num_train_epochs", "train.on_spike", "train.spike_factor"};
constexpr std::array<std::string_view, 2> kLengths{"train.max_steps", "train.num_train_epochs"};

template <size_t n>
bool is_in(const std::array<std::string_view, n>& keys, std::string_view key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

bool changes_results(std::string_view key, bool has_schedule) {
  const auto is_of = [&](std::string_view section) { return key.starts_with(section); };
  if (std::any_of(kFreeSections.begin(), kFreeSections.end(), is_of) || is_in(kFreeOfModel, key)) return false;
  if (is_in(kFreeOfRollouts, key)) return false;
  if (is_in(kLengths, key)) return has_schedule;
  return !is_of("train.") || is_in(kOfTrain, key);
}

}  // namespace

Settings settings_of(const config::Config& config, std::string_view section) {
  Settings all;
  for (auto& [key, value] : config::key_values(config))
    if (section.empty() ? !key.starts_with(kData) : key.starts_with(section)) all.emplace(key, std::move(value));
  return all;
}

std::vector<std::string> changed_results(const Settings& before, const Settings& now) {
  const auto schedule = now.find("optim.lr_scheduler_type");
  const bool has_schedule = schedule == now.end() || schedule->second.find("constant") == std::string::npos;
  std::vector<std::string> changed;
  for (const auto& [key, value] : now)
    if (const auto old = before.find(key);
        old != before.end() && old->second != value && changes_results(key, has_schedule))
      changed.push_back(text(key, ": ", old->second, " -> ", value));
  return changed;
}

void refuse_changes(const std::vector<std::string>& changed, std::string_view what, const std::string& directory,
                    bool anyway, LogSink& log) {
  if (changed.empty()) return;
  std::string lines;
  for (const std::string& line : changed) lines += "\n  " + line;
  if (anyway) return log.warning(text("going on from ", directory, " with other ", what, ":", lines));
  throw ConfigError(text(directory, " was saved with other ", what, ":", lines,
                         "\ngo on with what it was saved with, or set train.resume_anyway: true"));
}

}  // namespace fpdist::trainer
