#include "src/data/text/worker_place.hpp"

#include <dlfcn.h>

#include <filesystem>
#include <optional>
#include <system_error>

#include "fpdist/core/error.hpp"

namespace fpdist::data {
namespace {

namespace fs = std::filesystem;

/// Library folders may have one below them (lib/x86_64-linux-gnu), Python packages two.
constexpr int kLevels = 4;

std::optional<fs::path> folder_above(const fs::path& binary) {
  std::error_code error;
  fs::path folder = fs::canonical(binary, error);
  for (int level = 0; level < kLevels && !error && folder.has_relative_path(); ++level) {
    folder = folder.parent_path();
    if (fs::exists(folder / "share/fpdist/text/text_worker.py", error)) return folder / "share/fpdist/text";
  }
  return std::nullopt;
}

fs::path worker_folder() {
  Dl_info here{};
  std::optional<fs::path> folder;
  if (::dladdr(reinterpret_cast<const void*>(&worker_command), &here) != 0 && here.dli_fname != nullptr)
    folder = folder_above(here.dli_fname);
  if (!folder) folder = folder_above("/proc/self/exe");  // a program that was started by a bare name
  check<DataError>(folder.has_value(), "share/fpdist/text/text_worker.py is not beside ",
                   here.dli_fname != nullptr ? here.dli_fname : "this program",
                   ": build or install fpdist as a whole; without it text rows and tables cannot be read, lines of "
                   "token ids can");
  return *folder;
}

}  // namespace

std::vector<std::string> worker_command(const TextWorkerOptions& options) {
  const fs::path folder = worker_folder();
  // Isolated, without site packages and compiled copies: only what stands beside the worker is loaded.
  return {"python3",
          "-I",
          "-S",
          "-B",
          (folder / "text_worker.py").string(),
          (folder / "packages").string(),
          options.directory,
          text(options.render_seconds),
          text(options.memory_mib)};
}

std::vector<std::string> table_command(const std::string& path, const std::vector<std::string>& columns) {
  const fs::path folder = worker_folder();
  std::vector<std::string> command{
      "python3", "-I", "-S", "-B", (folder / "table_rows.py").string(), (folder / "tables").string(), path};
  command.insert(command.end(), columns.begin(), columns.end());
  return command;
}

}  // namespace fpdist::data
