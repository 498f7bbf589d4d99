#include "src/trainer/run/old_run.hpp"

#include <algorithm>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

// Whole files are written as NAME.tmp first.
const char kFiles[] =
    R"((config\.resolved\.yaml|metrics\.jsonl|costs\.yaml|trace-\d+(\.planned\.json|\.json|\.txt))(\.tmp)?)";
const char kLogs[] = R"((rank_\d+(\.log|\.flight\.json)|skipped_rows\.txt)(\.tmp)?)";
const char kExports[] = R"((final|checkpoint-\d+)(\.tmp)?)";

bool is_input(const fs::path& path, const config::Config& config) {
  std::vector<std::string> inputs = config.data.path;
  inputs.insert(inputs.end(), {config.model.path, config.model.ref_path, config.plan.costs});
  return std::any_of(inputs.begin(), inputs.end(), [&](const std::string& input) {
    std::error_code error;
    return !input.empty() && fs::equivalent(path, input, error);
  });
}

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

}  // namespace

void remove_old_run(const config::Config& config) {
  const fs::path dir(config.train.output_dir);
  std::vector<fs::path> files = entries(dir, kFiles, /*are_folders=*/false);
  for (const fs::path& log : entries(dir / "logs", kLogs, /*are_folders=*/false)) files.push_back(log);
  for (const fs::path& file : files) {
    std::error_code error;
    if (!is_input(file, config)) fs::remove(file, error);
    check<DiskError>(!error, "cannot remove ", file.string(), " of an earlier run: ", error.message(),
                     ": choose another train.output_dir");
  }
  for (fs::path folder : entries(dir, kExports, /*are_folders=*/true)) {
    if (folder.extension() == ".tmp") folder.replace_extension();
    if (!is_input(folder, config)) checkpoint::remove_hf_export(folder.string());
  }
}

}  // namespace fpdist::trainer
