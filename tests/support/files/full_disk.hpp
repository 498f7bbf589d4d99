#pragma once
// Tests: disks that take no more.

#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>
#include <string>

namespace fpdist::test {

/// Every write fails as on a full disk; opening does not.
inline const std::string kFullDevice = "/dev/full";

/// While it lives, no file of this process may grow beyond `bytes`: a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

/// A file system of `kib` KiB on the existing folder `folder`; where none may be mounted, it is not there.
class SmallDisk {
 public:
  SmallDisk(const std::string& folder, int kib)
      : folder_(folder),
        is_there_(::mount("none", folder.c_str(), "tmpfs", 0, ("size=" + std::to_string(kib) + "k").c_str()) == 0) {}
  ~SmallDisk() {
    if (is_there_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool is_there() const { return is_there_; }

 private:
  std::string folder_;
  bool is_there_;
};

}  // namespace fpdist::test
