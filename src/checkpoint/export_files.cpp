#include "src/checkpoint/export_files.hpp"

#include <regex>
#include <system_error>

#include "src/checkpoint/companions.hpp"
#include "src/files/files.hpp"

namespace fpdist::checkpoint {

namespace fs = std::filesystem;

bool is_weights(const std::string& name) {
  return name == "model.safetensors" || name == kAdapterWeights || name == "model.safetensors.index.json" ||
         (name.starts_with("model-") && name.ends_with(".safetensors"));
}

bool is_configuration(const std::string& name) { return name == "config.json" || name == "adapter_config.json"; }

std::string whole_name(const std::string& name) {
  static const std::regex temporary(R"((\.\d+)?\.tmp$)");
  return std::regex_replace(name, temporary, "");
}

bool is_of_export(const std::string& name) {
  const std::string whole = whole_name(name);
  return is_configuration(whole) || is_weights(whole) || is_companion(whole);
}

std::vector<std::string> export_files_in(const fs::path& directory) {
  std::vector<std::string> found;
  for (const std::string& name : files_of_model(directory.string()))
    if (is_of_export(name)) found.push_back((directory / name).string());
  return found;
}

std::vector<fs::path> staging_folders_of(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (int number = 0;; ++number) {
    const fs::path folder = files::AtomicFile::temporary_name(directory.string(), number);
    if (!fs::exists(fs::symlink_status(folder, ignored))) return found;
    found.push_back(folder);
  }
}

std::vector<std::string> files_in_the_way(const fs::path& directory) {
  std::vector<std::string> files = export_files_in(directory);
  for (const fs::path& folder : staging_folders_of(directory))
    for (std::string& file : export_files_in(folder)) files.push_back(std::move(file));
  return files;
}

fs::path without_slash(std::string directory) {
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  return directory;
}

}  // namespace fpdist::checkpoint
