#pragma once
// files: the only room that writes files. Whole files are there whole or not at all; files that grow do it by whole
// lines. Every failure to write is a DiskError: the file, the system's reason, the cure.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace fpdist::files {

/// Owns a POSIX file descriptor.
class FileHandle {
 public:
  explicit FileHandle(int descriptor) : descriptor_(descriptor) {}
  FileHandle(FileHandle&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileHandle& operator=(FileHandle&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~FileHandle();
  bool open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  /// Owns this one from now on; what it owned is closed.
  void take(int descriptor);
  /// Closes now; the result of close(2).
  int close();

 private:
  int descriptor_;
};

/// Writes `path` through `path`.tmp, or `path`.1.tmp, ... where something is called so already: append and write_at,
/// then commit (fsync, rename, fsync of the folder). Without a commit the destructor removes the temporary file. Throws
/// DiskError. A link is followed; what is no regular file (a terminal, a pipe) is written as it comes.
class AtomicFile {
 public:
  /// What `path` may be called while it is written, by number from 0.
  static std::string temporary_name(const std::string& path, int number);
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  void append(const void* data, size_t bytes);
  /// Does not move the place where append goes on.
  void write_at(uint64_t offset, const void* data, size_t bytes);
  void commit();

 private:
  std::string path_, temporary_;  // the same where there is nothing to rename
  FileHandle file_;
  bool committed_ = false;
};

/// `bytes` as the whole of `path`: an AtomicFile. Throws DiskError and then leaves what was there.
void write(const std::string& path, std::string_view bytes);

/// Takes from a file what lies behind its first `bytes`, and syncs it. Throws DiskError.
void cut(const std::string& path, uint64_t bytes);

/// A file that grows by lines or by records, for one writer at a time. One is with the system when its call returns, so
/// the end of the process loses none; of one that did not fit nothing stays. Throws DiskError.
class AppendFile {
 public:
  enum class Open { kEmpty, kGoOn };  ///< what the file held before goes, or stays
  AppendFile(const std::string& path, Open open);
  /// Writes a record's bytes in one call.
  void append(std::string_view record);
  /// Writes `line` and a newline in one call.
  void line(std::string_view line) { append(std::string(line) + '\n'); }
  /// fsync and close: what a file system says only now is thrown too. The destructor closes without a word.
  void close();

 private:
  std::string path_;
  FileHandle file_;
};

/// fsync of a directory, so that the names in it survive a power loss. Throws DiskError.
void sync_directory(const std::string& path);
/// No JSON that comes with a model is larger.
constexpr size_t kMaxJsonBytes = size_t{64} << 20;
/// All of a file, from its beginning, a piece at a time. Throws ModelFileError when it cannot be read.
void read_chunks(const std::string& path, const std::function<void(std::string_view)>& visit);
/// The whole file; throws ModelFileError when it cannot be read or is larger than `max_bytes`.
std::string read(const std::string& path, size_t max_bytes);

}  // namespace fpdist::files
