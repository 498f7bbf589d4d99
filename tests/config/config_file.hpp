#pragma once
// Tests: configuration files, and what parsing them says.

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::test {

/// A file with this text, gone at the end of the scope.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& content) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() / text("fpdist_config_", getpid(), "_", count++, ".yaml");
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~ConfigFile() { std::filesystem::remove(path_); }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// What ConfigError says about these arguments, or "accepted".
inline std::string refusal_of(const std::vector<std::string>& arguments) {
  return refusal<ConfigError>([&] { config::parse_command_line(arguments); });
}

inline const std::string kGoodConfig = "model: { preset: tiny }\ndata: { path: a.jsonl }\n";

/// What is said about a file that holds `content`, with the file's name shortened to FILE.
inline std::string error_in(const std::string& content) {
  const ConfigFile file(content);
  std::string what = refusal_of({file.path()});
  for (size_t at; (at = what.find(file.path())) != std::string::npos;) what.replace(at, file.path().size(), "FILE");
  return what;
}

}  // namespace fpdist::test
