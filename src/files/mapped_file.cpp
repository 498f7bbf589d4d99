#include "src/files/mapped_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "fpdist/core/error.hpp"
#include "src/core/clock.hpp"
#include "src/files/files.hpp"

namespace fpdist::files {

namespace {

std::string identity_of(const struct stat& status) {
  return text(status.st_dev, " ", status.st_ino, " ", status.st_size, " ", status.st_mtim.tv_sec, ".",
              status.st_mtim.tv_nsec, " ", status.st_ctim.tv_sec, ".", status.st_ctim.tv_nsec);
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check<DataError>(file.open(), path, ": cannot be opened: ", std::strerror(errno));
  struct stat status {};
  check<DataError>(::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode), path, ": is no file");
  size_ = static_cast<size_t>(status.st_size);
  identity_ = identity_of(status);
  if (size_ == 0) return;
  address_ = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
  check<DataError>(address_ != MAP_FAILED, path, ": cannot be mapped: ", std::strerror(errno));
}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(address_, size_);
}

FileLock::FileLock(const std::string& path, double seconds)
    : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  check<DiskError>(descriptor_ >= 0, "cannot make ", path, ": ", std::strerror(errno),
                   ": check the path and its permissions");
  const auto start = Clock::now();
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    const bool waits = reason == EWOULDBLOCK || reason == EINTR;
    if (waits && seconds_since(start) < seconds) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    ::close(descriptor_);
    throw DiskError(waits ? text("another process has held ", path, " for ", seconds, " seconds: is it still running?")
                          : text("cannot lock ", path, ": ", std::strerror(reason)));
  }
}

FileLock::~FileLock() { ::close(descriptor_); }

}  // namespace fpdist::files
