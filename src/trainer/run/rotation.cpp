#include "src/trainer/run/rotation.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/checkpoint/state/training_state.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpoint = "checkpoint-";

std::string folder_of(const Rotation& rotation, int64_t step) {
  return text(rotation.output_dir, "/", kCheckpoint, step);
}

/// Steps of the folders that hold exported weights, newest first.
std::vector<int64_t> exported_steps(const std::string& output_dir) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const int64_t step = step_of_folder(entry.path().string());
    const std::vector<std::string> files = checkpoint::export_files_in(entry.path());
    const bool has_weights = std::any_of(files.begin(), files.end(), [](const std::string& file) {
      return checkpoint::is_weights(fs::path(file).filename().string());
    });
    if (step > 0 && has_weights) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

bool holds_spared(const std::string& folder, const SparedFile& spares) {
  const std::vector<std::string> names = checkpoint::files_of_model(folder);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return spares(folder + "/" + name); });
}

/// What a kill has left of one that was being removed: no manifest, and no weights of an export.
bool is_half_removed(const std::string& folder) {
  std::error_code unknown;
  if (fs::exists(folder + "/manifest.json", unknown)) return false;
  const auto is_of_export = [](const auto& entry) { return checkpoint::is_weights(entry.path().filename().string()); };
  const fs::directory_iterator entries(folder, unknown);
  return std::none_of(begin(entries), end(entries), is_of_export);
}

}  // namespace

int64_t step_of_folder(const std::string& directory) {
  const std::string name = fs::path(directory).filename().string();
  if (!name.starts_with(kCheckpoint)) return 0;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [rest, wrong] = std::from_chars(name.data() + kCheckpoint.size(), end, step);
  return wrong == std::errc() && rest == end ? step : 0;
}

std::vector<int64_t> steps_to_remove(std::vector<int64_t> steps, const Rotation& rotation) {
  std::vector<int64_t> removed;
  if (rotation.limit == 0) return removed;
  std::erase_if(steps, [&](int64_t step) { return step > rotation.newest; });
  auto left = static_cast<int64_t>(steps.size());
  for (size_t i = steps.size(); i-- > 1 && left > rotation.limit;)
    if (steps[i] != rotation.best) removed.push_back(steps[i]), --left;
  return removed;
}

void remove_older_states(const Rotation& rotation, const SparedFile& spares) {
  std::vector<int64_t> whole, removed;
  for (const checkpoint::FoundState& state : checkpoint::find_states(rotation.output_dir)) {
    if (state.fault.empty()) whole.push_back(state.step);
    if (is_half_removed(state.directory)) removed.push_back(state.step);
  }
  for (const int64_t step : steps_to_remove(whole, rotation)) removed.push_back(step);
  for (const int64_t step : removed)
    if (const std::string folder = folder_of(rotation, step); !holds_spared(folder, spares))
      checkpoint::remove_state(folder);
}

void remove_older_exports(const Rotation& rotation, const SparedFile& spares) {
  for (const int64_t step : steps_to_remove(exported_steps(rotation.output_dir), rotation))
    checkpoint::remove_hf_export(folder_of(rotation, step), spares);
}

}  // namespace fpdist::trainer
