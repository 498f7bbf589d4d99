#pragma once
// files: a file as memory.

#include <cstddef>
#include <string>
#include <string_view>

namespace fpdist::files {

/// Read only, for as long as this lives. The file must not be cut meanwhile; one that is replaced by a rename stays.
class MappedFile {
 public:
  /// Throws DataError when it cannot be opened or mapped; an empty file is fine.
  explicit MappedFile(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  std::string_view bytes() const { return {static_cast<const char*>(address_), size_}; }
  /// Device, inode, size and times, as they were when it was mapped: equal for the same file as long as nobody wrote
  /// it.
  const std::string& identity() const { return identity_; }

 private:
  void* address_ = nullptr;
  size_t size_ = 0;
  std::string identity_;
};

/// The only holder of the file `path`, which is made where it is missing, among all processes that ask the same way; a
/// holder that dies lets go. Waits for the others, `seconds` at most: DiskError then, or when the file cannot be made.
class FileLock {
 public:
  FileLock(const std::string& path, double seconds);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  int descriptor_;
};

}  // namespace fpdist::files
