#include "src/data/rows/data_files.hpp"

#include <glob.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "fpdist/core/error.hpp"

namespace fpdist::data {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 6> kEndings{".jsonl",   ".json",      ".jsonl.gz",
                                                   ".json.gz", ".jsonl.zst", ".json.zst"};
constexpr std::array<std::string_view, 3> kTables{".parquet", ".arrow", ".feather"};

template <size_t kCount>
bool ends_in_one(std::string_view path, const std::array<std::string_view, kCount>& endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) { return path.ends_with(ending); });
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string path = entry.path().string();
    if ((ends_in_one(path, kEndings) || is_table(path)) && entry.is_regular_file(error)) found.push_back(path);
  }
  std::sort(found.begin(), found.end());
  check<DataError>(!found.empty(), folder, ":1:1: the folder has no .jsonl or .parquet file: check data.path");
  return found;
}

std::vector<std::string> files_like(const std::string& pattern) {
  glob_t matches{};
  const int error = ::glob(pattern.c_str(), 0, nullptr, &matches);
  std::vector<std::string> found;
  if (error == 0) found.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  ::globfree(&matches);
  check<DataError>(!found.empty(), pattern, ":1:1: no file is called like this: check data.path");
  return found;
}

}  // namespace

bool is_table(std::string_view path) { return ends_in_one(path, kTables); }

std::string row_name(std::string_view file, int64_t row) { return text(file, is_table(file) ? ": row " : ":", row); }

std::vector<std::string> data_files(const std::vector<std::string>& paths) {
  std::vector<std::string> all;
  for (const std::string& path : paths) {
    std::error_code error;
    std::vector<std::string> found{path};
    if (fs::is_directory(path, error))
      found = files_in(path);
    else if (!fs::exists(path, error) && path.find_first_of("*?[") != std::string::npos)
      found = files_like(path);
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

}  // namespace fpdist::data
