#include "src/checkpoint/companions.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;
constexpr std::array<std::string_view, 9> kBeginnings{
    "tokenizer",          "spiece",       "sentencepiece",     "vocab",        "merges",
    "special_tokens_map", "added_tokens", "generation_config", "chat_template"};
constexpr size_t kMostBytes = size_t{1} << 30;

}  // namespace

bool is_companion(const std::string& name) {
  return std::any_of(kBeginnings.begin(), kBeginnings.end(),
                     [&](auto beginning) { return name.starts_with(beginning); });
}

std::vector<std::string> companion_names(const std::string& directory) {
  std::error_code error;
  const fs::directory_iterator entries(directory, error);
  check<ModelFileError>(!error, directory, ": its tokenizer files cannot be listed: ", error.message());
  std::vector<std::string> names;
  for (const auto& entry : entries)
    if (is_companion(entry.path().filename().string()) && entry.is_regular_file(error))
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_companion(const std::string& directory, const std::string& name) {
  return files::read((fs::path(directory) / name).string(), kMostBytes);
}

}  // namespace fpdist::checkpoint
