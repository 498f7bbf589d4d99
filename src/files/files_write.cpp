#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "fpdist/core/error.hpp"
#include "src/files/disk_error.hpp"
#include "src/files/files.hpp"

namespace fpdist::files {
namespace {

/// All of `bytes` by write(next, length), which may take less than it is given.
template <typename Write>
void write_all(const std::string& path, const void* data, size_t bytes, Write write) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = write(next, std::min(bytes, size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_disk_error(path);
    next += written;
    bytes -= static_cast<size_t>(written);
  }
}

bool is_no_regular_file(const std::string& path) {
  struct stat there {};
  return ::stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode) && !S_ISDIR(there.st_mode);
}

/// Where `path`'s links lead: a rename onto a link would replace the link.
std::string followed(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  return error ? path : target.string();
}

}  // namespace

std::string AtomicFile::temporary_name(const std::string& path, int number) {
  return number == 0 ? path + ".tmp" : text(path, ".", number, ".tmp");
}

AtomicFile::AtomicFile(const std::string& path)
    : path_(is_no_regular_file(path) ? path : followed(path)), temporary_(path_), file_(-1) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_CLOEXEC;
  if (is_no_regular_file(path)) {
    file_ = FileHandle(::open(path_.c_str(), kFlags | O_TRUNC, 0666));
  } else {
    // Nothing that is there is opened: it may be somebody's own.
    for (int number = 0; !file_.open() && (number == 0 || errno == EEXIST); ++number) {
      temporary_ = temporary_name(path_, number);
      file_ = FileHandle(::open(temporary_.c_str(), kFlags | O_EXCL, 0666));
    }
  }
  if (!file_.open()) throw_disk_error(path_);
}

AtomicFile::~AtomicFile() {
  if (!committed_ && temporary_ != path_) ::unlink(temporary_.c_str());
}

void AtomicFile::append(const void* data, size_t bytes) {
  write_all(path_, data, bytes, [&](const char* next, size_t length) { return ::write(file_.get(), next, length); });
}

void AtomicFile::write_at(uint64_t offset, const void* data, size_t bytes) {
  const char* begin = static_cast<const char*>(data);
  write_all(path_, data, bytes, [&](const char* next, size_t length) {
    return ::pwrite(file_.get(), next, length, static_cast<off_t>(offset + static_cast<uint64_t>(next - begin)));
  });
}

void AtomicFile::commit() {
  const bool renames = temporary_ != path_;
  if (renames && ::fsync(file_.get()) != 0) throw_disk_error(path_, "flushing it: ");
  if (file_.close() != 0) throw_disk_error(path_, "closing it: ");
  if (!renames) return;
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) throw_disk_error(path_, "renaming its .tmp: ");
  committed_ = true;
  const auto folder = std::filesystem::path(path_).parent_path();
  sync_directory(folder.empty() ? "." : folder.string());
}

void write(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.append(bytes.data(), bytes.size());
  file.commit();
}

void cut(const std::string& path, uint64_t bytes) {
  FileHandle file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.open()) throw_disk_error(path);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) throw_disk_error(path, "cutting it: ");
  if (::fsync(file.get()) != 0 && errno != EINVAL) throw_disk_error(path, "flushing it: ");
}

AppendFile::AppendFile(const std::string& path, Open open)
    : path_(path),
      file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (open == Open::kEmpty ? O_TRUNC : 0),
                   0666)) {
  if (!file_.open()) throw_disk_error(path_);
}

void AppendFile::append(std::string_view record) {
  off_t written = 0;
  try {
    write_all(path_, record.data(), record.size(), [&](const char* next, size_t length) {
      const ssize_t took = ::write(file_.get(), next, length);
      written += std::max<ssize_t>(took, 0);
      return took;
    });
  } catch (const DiskError&) {
    // O_APPEND has left the place behind what was written. A device has no place, and nothing to cut.
    const off_t end = ::lseek(file_.get(), 0, SEEK_CUR);
    [[maybe_unused]] const int cut = end >= written && written > 0 ? ::ftruncate(file_.get(), end - written) : 0;
    throw;
  }
}

void AppendFile::close() {
  // What cannot be synced, such as a terminal, says EINVAL.
  if (::fsync(file_.get()) != 0 && errno != EINVAL) throw_disk_error(path_, "flushing it: ");
  if (file_.close() != 0) throw_disk_error(path_, "closing it: ");
}

void sync_directory(const std::string& path) {
  FileHandle folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a directory and say EINVAL: then there is nothing to do.
  const bool synced = folder.open() && (::fsync(folder.get()) == 0 || errno == EINVAL);
  check<DiskError>(synced, path, ": the folder cannot be flushed: ", std::strerror(errno));
}

}  // namespace fpdist::files
