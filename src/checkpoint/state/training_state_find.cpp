// Which checkpoints there are in an output folder.

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/state/state_files.hpp"
#include "src/checkpoint/state/training_state.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;

/// The step of "checkpoint-<step><ending>".
std::optional<int64_t> step_of(std::string_view name, std::string_view ending) {
  constexpr std::string_view kBeginning = "checkpoint-";
  if (!name.starts_with(kBeginning) || !name.ends_with(ending)) return std::nullopt;
  name.remove_prefix(kBeginning.size());
  if (name.size() <= ending.size()) return std::nullopt;
  name.remove_suffix(ending.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  // One spelling only: two folders of one step would be two checkpoints.
  const bool is_step =
      step >= 0 && error == std::errc() && end == name.data() + name.size() && std::to_string(step) == name;
  return is_step ? std::optional(step) : std::nullopt;
}

/// Folders "checkpoint-<step><ending>" by step.
std::map<int64_t, std::string> folders_in(const std::string& output_dir, std::string_view ending) {
  std::map<int64_t, std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const auto step = step_of(entry.path().filename().string(), ending);
    if (std::error_code unknown; step && entry.is_directory(unknown)) found[*step] = entry.path().string();
  }
  return found;
}

FoundState look_at(int64_t step, const std::string& directory) {
  FoundState found{.step = step, .directory = directory, .fault = {}};
  try {
    open_manifest(directory);
  } catch (const NewerFormat& error) {
    found.fault = error.what(), found.is_newer = true;
  } catch (const ModelFileError& error) {
    found.fault = error.what();
  }
  return found;
}

}  // namespace

std::vector<FoundState> find_states(const std::string& output_dir) {
  std::map<int64_t, std::string> folders = folders_in(output_dir, "");
  folders.merge(folders_in(output_dir, ".replaced"));
  std::vector<FoundState> found;
  for (const auto& [step, directory] : folders) found.push_back(look_at(step, directory));
  std::reverse(found.begin(), found.end());
  return found;
}

void recover_states(const std::string& output_dir) {
  std::set<int64_t> steps;
  for (const char* ending : {".tmp", ".replaced"})
    for (const auto& [step, directory] : folders_in(output_dir, ending)) steps.insert(step);
  for (const int64_t step : steps) discard_state((fs::path(output_dir) / text("checkpoint-", step)).string());
}

}  // namespace fpdist::checkpoint
