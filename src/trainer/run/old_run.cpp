#include "src/trainer/run/old_run.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <regex>
#include <utility>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/files/folders.hpp"
#include "src/trainer/run/rotation.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

// Whole files are written as NAME.tmp or NAME.1.tmp first.
const char kFiles[] =
    R"((config\.resolved\.yaml|metrics\.jsonl|metrics\.prom|costs\.yaml|trace-\d+(\.planned\.json|\.json|\.txt)|step-\d+(\.rows\.jsonl|\.costs\.yaml|\.yaml|\.plan\.json))((\.\d+)?\.tmp)?)";
const char kLogs[] = R"((rank_\d+(\.log|\.flight\.json)|skipped_rows\.txt)((\.\d+)?\.tmp)?)";
const char kCompletions[] = R"(step-\d+\.jsonl((\.\d+)?\.tmp)?)";
const char kEvents[] = R"(events\.out\.tfevents\.\d+\.fpdist)";
const char kStates[] =
    R"((manifest\.json|state\.json|config\.resolved\.yaml|shard-\d+-of-\d+\.safetensors)((\.\d+)?\.tmp)?)";
const char kUnfinished[] = R"((final|checkpoint-\d+)(\.\d+)?\.tmp)";
const char kResults[] = R"(final|checkpoint-\d+)";
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
  for (const auto& [folder, names] :
       {std::pair{"logs", kLogs}, std::pair{"tensorboard", kEvents}, std::pair{"completions", kCompletions}})
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

/// What an export or a training state has in `folder`; what makes it one comes first.
std::vector<fs::path> saved_files_in(const fs::path& folder) {
  std::vector<fs::path> files = entries(folder, kStates, /*are_folders=*/false);
  std::sort(files.begin(), files.end());  // the manifest ahead of what it names
  for (const std::string& file : checkpoint::export_files_in(folder)) files.emplace_back(file);
  return files;
}

void remove_file(const fs::path& file) {
  try {
    files::remove(file.string());
  } catch (const DiskError& error) {
    throw DiskError(text("of an earlier run: ", error.what(), ": choose another train.output_dir"));
  }
}

/// Whether a run with these options saves to a folder of this name.
bool will_save(const std::string& name, const TrainOptions& options) {
  const int64_t step = step_of_folder(name);
  if (step == 0) return true;  // final
  if (options.save_strategy == "epoch") return true;
  if (options.save_strategy == "no" || options.save_steps == 0 || step > options.max_steps) return false;
  return step == options.max_steps ? !options.save_only_model : step % options.save_steps == 0;
}

}  // namespace

std::vector<std::string> files_in_the_way(const TrainOptions& options) {
  std::vector<std::string> files;
  const fs::path dir(options.output_dir);
  for (const fs::path& file : own_files(dir)) files.push_back(file.string());
  for (const fs::path& folder : exports_in(dir)) {
    if (!will_save(folder.filename().string(), options)) continue;
    for (const fs::path& file : saved_files_in(folder)) files.push_back(file.string());
    for (const fs::path& staging : checkpoint::staging_folders_of(folder))
      for (const fs::path& file : saved_files_in(staging)) files.push_back(file.string());
  }
  return files;
}

std::string results_in(const std::string& output_dir) {
  const std::vector<fs::path> found = entries(output_dir, kResults, /*are_folders=*/true);
  return found.empty() ? "" : found.front().filename().string();
}

void remove_unfinished(const std::string& output_dir) {
  for (const fs::path& file : own_files(output_dir))
    if (file.extension() == ".tmp") remove_file(file);
  for (const fs::path& folder : entries(output_dir, kUnfinished, /*are_folders=*/true)) {
    for (const fs::path& file : saved_files_in(folder)) remove_file(file);
    checkpoint::remove_empty_model(folder.string());
  }
}

void remove_old_run(const std::string& output_dir, const std::function<bool(const std::string& file)>& keeps) {
  for (const fs::path& file : own_files(output_dir))
    if (!keeps(file.string())) remove_file(file);
  for (const fs::path& folder : exports_in(output_dir)) {
    std::vector<fs::path> folders = checkpoint::staging_folders_of(folder);
    folders.push_back(folder);
    for (const fs::path& one : folders)
      for (const fs::path& file : entries(one, kStates, /*are_folders=*/false))
        if (!keeps(file.string())) remove_file(file);
    checkpoint::remove_hf_export(folder.string(), keeps);
  }
}

}  // namespace fpdist::trainer
