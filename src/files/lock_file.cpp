#include "src/files/lock_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "fpdist/core/error.hpp"

namespace fpdist::files {
namespace {

constexpr size_t kMostOwner = 4096;

/// Whether `path` is still the file that is open: who let go of it before has removed it.
bool is_there(const FileHandle& file, const std::string& path) {
  struct stat open {};
  struct stat named {};
  return ::fstat(file.get(), &open) == 0 && ::stat(path.c_str(), &named) == 0 && open.st_dev == named.st_dev &&
         open.st_ino == named.st_ino;
}

}  // namespace

LockFile::LockFile(const std::string& path, const std::string& owner) : path_(path), file_(-1) {
  while (!held_) {
    file_.take(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    check<DiskError>(file_.open(), "cannot make ", path_, ": ", std::strerror(errno),
                     ": check the path and its permissions");
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return;  // no locks here
      throw ConfigError(text(path_, " is held by ", read(path_, kMostOwner)));
    }
    held_ = is_there(file_, path_);
  }
  const bool written = ::ftruncate(file_.get(), 0) == 0 &&
                       ::write(file_.get(), owner.data(), owner.size()) == static_cast<ssize_t>(owner.size());
  if (written) return;
  const std::string why = std::strerror(errno);
  ::unlink(path_.c_str());
  throw DiskError(text("cannot write ", path_, ": ", why, ": is the disk full?"));
}

LockFile::~LockFile() {
  if (held_) ::unlink(path_.c_str());
}

}  // namespace fpdist::files
