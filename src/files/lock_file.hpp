#pragma once
// files: a file that says who works in a folder, for as long as he does. The lock is the system's (flock) and goes with
// the process, however it ends; what a killed one leaves is a file that nobody holds.

#include <string>

#include "src/files/files.hpp"

namespace fpdist::files {

class LockFile {
 public:
  /// Makes `path` where it is not there, holds it and writes `owner` into it. Throws ConfigError, with what the owner
  /// has written, where another process or another LockFile of this one holds it; DiskError where it cannot be made.
  /// On a file system without locks it holds nothing, and is_held() says so.
  LockFile(const std::string& path, const std::string& owner);
  /// Removes the file and lets go.
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;
  bool is_held() const { return held_; }

 private:
  std::string path_;
  FileHandle file_;
  bool held_ = false;
};

}  // namespace fpdist::files
