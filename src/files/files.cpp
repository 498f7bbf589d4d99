#include "src/files/files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::files {

FileHandle::~FileHandle() { close(); }

int FileHandle::close() {
  if (descriptor_ < 0) return 0;
  return ::close(std::exchange(descriptor_, -1));
}

AtomicFile::AtomicFile(const std::string& path)
    : path_(path),
      temporary_(path + ".tmp"),
      file_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (!file_.open()) fail("cannot be created");
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

template <typename Write>
void AtomicFile::write_all(const void* data, size_t bytes, Write write) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = write(next, std::min(bytes, size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot be written");
    next += written;
    bytes -= static_cast<size_t>(written);
  }
}

void AtomicFile::append(const void* data, size_t bytes) {
  write_all(data, bytes, [&](const char* next, size_t length) { return ::write(file_.get(), next, length); });
}

void AtomicFile::write_at(uint64_t offset, const void* data, size_t bytes) {
  const char* begin = static_cast<const char*>(data);
  write_all(data, bytes, [&](const char* next, size_t length) {
    return ::pwrite(file_.get(), next, length, static_cast<off_t>(offset + static_cast<uint64_t>(next - begin)));
  });
}

void AtomicFile::commit() {
  if (::fsync(file_.get()) != 0) fail("cannot be flushed");
  if (file_.close() != 0) fail("cannot be closed");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot be renamed from its .tmp");
  committed_ = true;
  const auto folder = std::filesystem::path(path_).parent_path();
  sync_directory(folder.empty() ? "." : folder.string());
}

void AtomicFile::fail(const char* action) const {
  throw DiskError(
      text(path_, ": ", action, ": ", std::strerror(errno), "; free space or choose another output folder"));
}

void write(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.append(bytes.data(), bytes.size());
  file.commit();
}

void sync_directory(const std::string& path) {
  FileHandle folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a directory and say EINVAL: then there is nothing to do.
  const bool synced = folder.open() && (::fsync(folder.get()) == 0 || errno == EINVAL);
  check<DiskError>(synced, path, ": the folder cannot be flushed: ", std::strerror(errno));
}

std::string read(const std::string& path, size_t max_bytes) {
  const FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check<ModelFileError>(file.open(), path, ": cannot be opened: ", std::strerror(errno));
  std::string bytes, buffer(size_t{1} << 16, '\0');
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    check<ModelFileError>(got >= 0, path, ": cannot be read: ", std::strerror(errno));
    if (got == 0) return bytes;
    bytes.append(buffer, 0, static_cast<size_t>(got));
    check<ModelFileError>(bytes.size() <= max_bytes, path, ": is larger than ", max_bytes, " bytes");
  }
}

}  // namespace fpdist::files
