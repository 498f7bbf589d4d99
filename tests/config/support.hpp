#pragma once
// Configuration files of one test, and what parsing them says.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::config::testing {

/// A file with this text, gone at the end of the scope.
class File {
 public:
  explicit File(const std::string& content) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() / text("fpdist_config_", getpid(), "_", count++, ".yaml");
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~File() { std::filesystem::remove(path_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// What ConfigError says about these arguments; "" when it says nothing.
inline std::string error_of(const std::vector<std::string>& arguments) {
  try {
    parse_command_line(arguments);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

inline const std::string kGood = "model: { preset: tiny }\ndata: { path: a.jsonl }\n";

/// What is said about a file that holds `content`, with the file's name shortened to FILE.
inline std::string error_in(const std::string& content) {
  const File file(content);
  std::string what = error_of({file.path()});
  for (size_t at; (at = what.find(file.path())) != std::string::npos;) what.replace(at, file.path().size(), "FILE");
  return what;
}

inline void expect_words(const std::string& what, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(what.find(word), std::string::npos) << word << "\nnot in: " << what;
}

}  // namespace fpdist::config::testing
