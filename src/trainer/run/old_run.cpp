#include "src/trainer/run/old_run.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <regex>
#include <utility>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/export_files.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

// Whole files are written as NAME.tmp or NAME.1.tmp first.
const char kFiles[] =
    R"((config\.resolved\.yaml|metrics\.jsonl|metrics\.prom|costs\.yaml|trace-\d+(\.planned\.json|\.json|\.txt))((\.\d+)?\.tmp)?)";
const char kLogs[] = R"((rank_\d+(\.log|\.flight\.json)|skipped_rows\.txt)((\.\d+)?\.tmp)?)";
const char kEvents[] = R"(events\.out\.tfevents\.\d+\.fpdist)";
const char kExports[] = R"((final|checkpoint-\d+)((\.\d+)?\.tmp)?)";

/// Entries of `folder` that are called so; none where there is no such folder.
std::vector<fs::path> entries(const fs::path& folder, const char* names, bool are_folders) {
  const std::regex pattern(names);
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    std::error_code unknown;
    if (std::regex_match(entry.path().filename().string(), pattern) && entry.is_directory(unknown) == are_folders)
      found.push_back(entry.path());
  }
  return found;
}

/// Files of runs that are no exports.
std::vector<fs::path> own_files(const fs::path& output_dir) {
  std::vector<fs::path> files = entries(output_dir, kFiles, /*are_folders=*/false);
  for (const auto& [folder, names] : {std::pair{"logs", kLogs}, std::pair{"tensorboard", kEvents}})
    for (const fs::path& file : entries(output_dir / folder, names, /*are_folders=*/false)) files.push_back(file);
  return files;
}

/// final, checkpoint-10 and the like, of those that are there, without the ends of what is unfinished.
std::vector<fs::path> exports_in(const fs::path& output_dir) {
  static const std::regex unfinished(R"(((\.\d+)?\.tmp)$)");
  std::vector<fs::path> exports;
  for (const fs::path& folder : entries(output_dir, kExports, /*are_folders=*/true))
    exports.push_back(output_dir / std::regex_replace(folder.filename().string(), unfinished, ""));
  std::sort(exports.begin(), exports.end());
  exports.erase(std::unique(exports.begin(), exports.end()), exports.end());
  return exports;
}

/// Whether a run with these options exports to a folder of this name.
bool will_export(const std::string& name, const TrainOptions& options) {
  constexpr std::string_view kCheckpoint = "checkpoint-";
  if (!name.starts_with(kCheckpoint)) return true;  // final
  int64_t step = 0;
  std::from_chars(name.data() + kCheckpoint.size(), name.data() + name.size(), step);
  return options.save_steps > 0 && step % options.save_steps == 0 && step < options.max_steps;
}

}  // namespace

std::vector<std::string> files_in_the_way(const TrainOptions& options) {
  std::vector<std::string> files;
  const fs::path dir(options.output_dir);
  for (const fs::path& file : own_files(dir)) files.push_back(file.string());
  for (const fs::path& folder : exports_in(dir)) {
    if (!will_export(folder.filename().string(), options)) continue;
    for (std::string& file : checkpoint::files_in_the_way(folder)) files.push_back(std::move(file));
  }
  return files;
}

void remove_old_run(const std::string& output_dir, const std::function<bool(const std::string& file)>& keeps) {
  for (const fs::path& file : own_files(output_dir)) {
    std::error_code error;
    if (!keeps(file.string())) fs::remove(file, error);
    check<DiskError>(!error, "cannot remove ", file.string(), " of an earlier run: ", error.message(),
                     ": choose another train.output_dir");
  }
  for (const fs::path& folder : exports_in(output_dir)) checkpoint::remove_hf_export(folder.string(), keeps);
}

}  // namespace fpdist::trainer
