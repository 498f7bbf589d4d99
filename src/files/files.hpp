#pragma once
// Files that are either whole or not there.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fpdist::files {

/// Owns a POSIX file descriptor.
class FileHandle {
 public:
  explicit FileHandle(int descriptor) : descriptor_(descriptor) {}
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;
  ~FileHandle();
  bool open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  /// Closes now; the result of close(2).
  int close();

 private:
  int descriptor_;
};

/// Writes `path` through `path`.tmp: append and write_at, then commit (fsync, rename, fsync of the folder). Without a
/// commit the destructor removes the temporary file. Every failure is a DiskError naming the file and the system's
/// reason.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  void append(const void* data, size_t bytes);
  /// Does not move the place where append goes on.
  void write_at(uint64_t offset, const void* data, size_t bytes);
  void commit();

 private:
  template <typename Write>
  void write_all(const void* data, size_t bytes, Write write);
  [[noreturn]] void fail(const char* action) const;
  std::string path_, temporary_;
  FileHandle file_;
  bool committed_ = false;
};

void write(const std::string& path, std::string_view bytes);
/// fsync of a directory, so that the names in it survive a power loss.
void sync_directory(const std::string& path);
/// No JSON that comes with a model is larger.
constexpr size_t kMaxJsonBytes = size_t{64} << 20;
/// The whole file; throws ModelFileError when it cannot be read or is larger than `max_bytes`.
std::string read(const std::string& path, size_t max_bytes);

}  // namespace fpdist::files
