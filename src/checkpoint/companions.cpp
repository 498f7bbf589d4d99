#include "src/checkpoint/companions.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "fpdist/core/error.hpp"
#include "src/arch/config_json.hpp"
#include "src/files/files.hpp"
#include "src/files/folders.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;
constexpr std::array<std::string_view, 9> kBeginnings{
    "tokenizer",          "spiece",       "sentencepiece",     "vocab",        "merges",
    "special_tokens_map", "added_tokens", "generation_config", "chat_template"};
constexpr std::string_view kTemplate = ".jinja";
constexpr size_t kMostBytes = size_t{1} << 30;

/// The name of a template in its folder; "" for a file that is not there.
std::string_view template_in(std::string_view name) {
  const std::string_view folder = arch::kNamedTemplates;
  return name.starts_with(folder) && name.substr(folder.size()).starts_with('/') ? name.substr(folder.size() + 1) : "";
}

bool is_folder(const fs::path& path) {
  std::error_code unknown;
  return fs::is_directory(path, unknown);
}

void add_files(const fs::path& folder, const std::string& before, std::vector<std::string>& names) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (!is_folder(entry.path())) names.push_back(before + entry.path().filename().string());
}

/// False where anything is in it, or where it is a link or no folder.
bool remove_if_empty(const fs::path& folder) {
  std::error_code unknown;
  if (!fs::is_directory(fs::symlink_status(folder, unknown)) || !fs::is_empty(folder, unknown)) return false;
  files::remove(folder.string());
  return true;
}

}  // namespace

std::vector<std::string> files_of_model(const std::string& directory) {
  std::vector<std::string> names;
  add_files(directory, "", names);
  add_files(fs::path(directory) / arch::kNamedTemplates, std::string(arch::kNamedTemplates) + "/", names);
  std::sort(names.begin(), names.end());
  return names;
}

bool remove_empty_model(const std::string& directory) {
  remove_if_empty(fs::path(directory) / arch::kNamedTemplates);
  return remove_if_empty(directory);
}

bool is_companion(const std::string& name) {
  if (const std::string_view own = template_in(name); !own.empty())
    return own.ends_with(kTemplate) && own.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
  return name.find('/') == std::string::npos &&
         std::any_of(kBeginnings.begin(), kBeginnings.end(),
                     [&](auto beginning) { return name.starts_with(beginning); });
}

std::vector<std::string> companion_names(const std::string& directory) {
  std::error_code error;
  const fs::directory_iterator entries(directory, error);
  check<ModelFileError>(!error, directory, ": its tokenizer files cannot be listed: ", error.message());
  std::vector<std::string> names = files_of_model(directory);
  std::erase_if(names, [&](const std::string& name) {
    return !is_companion(name) || !fs::is_regular_file(fs::path(directory) / name, error);
  });
  return names;
}

std::string read_companion(const std::string& directory, const std::string& name) {
  return files::read((fs::path(directory) / name).string(), kMostBytes);
}

void write_companion(const std::string& directory, const std::string& name, const std::string& bytes) {
  const fs::path path = fs::path(directory) / name;
  files::make_folder(path.parent_path().string());
  files::write(path.string(), bytes);
}

}  // namespace fpdist::checkpoint
