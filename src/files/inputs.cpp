#include "src/files/inputs.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <system_error>

#include "fpdist/core/error.hpp"

namespace fpdist::files {

bool Inputs::identify(const std::string& path, Identity& identity) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return false;
  identity = {.device = status.st_dev, .inode = status.st_ino};
  return true;
}

void Inputs::add(std::string_view what, const std::string& path) {
  Identity identity;
  if (identify(path, identity)) name_.emplace(identity, text(what, " ", path));
}

void Inputs::add_folder(std::string_view what, const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::error_code unknown;
    if (!entry.is_directory(unknown)) add(what, entry.path().string());
  }
}

std::string Inputs::at(const std::string& path) const {
  Identity identity;
  if (!identify(path, identity)) return "";
  const auto found = name_.find(identity);
  return found == name_.end() ? "" : found->second;
}

void Inputs::check_spared(const std::string& path, std::string_view cure) const {
  const std::string what = at(path);
  check<ConfigError>(what.empty(), path, " would be written over, and ", what, " is that file: ", cure);
}

}  // namespace fpdist::files
