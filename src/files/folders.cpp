#include "src/files/folders.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "fpdist/core/error.hpp"
#include "src/files/disk_error.hpp"
#include "src/files/files.hpp"

namespace fpdist::files {
namespace {

std::string folder_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

bool is_folder(const std::string& path) {
  struct stat there {};
  return ::stat(path.c_str(), &there) == 0 && S_ISDIR(there.st_mode);
}

/// Syncs the folder of `path`; `take_back` where that fails.
template <typename TakeBack>
void sync_or(const std::string& path, TakeBack take_back) {
  try {
    sync_directory(folder_of(path));
  } catch (const DiskError&) {
    take_back();
    throw;
  }
}

int exchange_names(const std::string& one, const std::string& other) {
  return ::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
}

}  // namespace

void make_folder(const std::string& path) {
  if (path.empty() || is_folder(path)) return;
  make_folder(std::filesystem::path(path).parent_path().string());
  if (::mkdir(path.c_str(), 0777) != 0 && (errno != EEXIST || !is_folder(path))) throw_disk_error(path, "making it: ");
  sync_directory(folder_of(path));
}

bool make_new_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) != 0) {
    if (errno == EEXIST) return false;
    throw_disk_error(path, "making it: ");
  }
  sync_directory(folder_of(path));
  return true;
}

void rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) throw_disk_error(to, "renaming it: ");
  sync_or(to, [&] { std::rename(to.c_str(), from.c_str()); });
}

bool exchange(const std::string& one, const std::string& other) {
  if (exchange_names(one, other) != 0) {
    if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return false;
    throw_disk_error(other, "renaming it: ");
  }
  sync_or(other, [&] { exchange_names(one, other); });
  return true;
}

void sync(const std::string& path) {
  const FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.open() && errno == ENOENT) return;
  // What cannot be synced, such as a pipe, says EINVAL.
  if (!file.open() || (::fsync(file.get()) != 0 && errno != EINVAL)) throw_disk_error(path, "flushing it: ");
}

void remove(const std::string& path) {
  if (std::remove(path.c_str()) != 0 && errno != ENOENT) throw_disk_error(path, "removing it: ");
}

}  // namespace fpdist::files
