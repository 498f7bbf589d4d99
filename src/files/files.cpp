#include "src/files/files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::files {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 18;  // stays in a core's cache

}  // namespace

FileHandle::~FileHandle() { close(); }

void FileHandle::take(int descriptor) {
  close();
  descriptor_ = descriptor;
}

int FileHandle::close() {
  if (descriptor_ < 0) return 0;
  return ::close(std::exchange(descriptor_, -1));
}

void read_chunks(const std::string& path, const std::function<void(std::string_view)>& visit) {
  const FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check<ModelFileError>(file.open(), path, ": cannot be opened: ", std::strerror(errno));
  std::string buffer(kChunkBytes, '\0');
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    check<ModelFileError>(got >= 0, path, ": cannot be read: ", std::strerror(errno));
    if (got == 0) return;
    visit({buffer.data(), static_cast<size_t>(got)});
  }
}

std::string read(const std::string& path, size_t max_bytes) {
  std::string bytes;
  read_chunks(path, [&](std::string_view chunk) {
    bytes.append(chunk);
    check<ModelFileError>(bytes.size() <= max_bytes, path, ": is larger than ", max_bytes, " bytes");
  });
  return bytes;
}

}  // namespace fpdist::files
