#include "src/data/rows/line_reader.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/data/rows/data_files.hpp"
#include "src/data/text/worker_place.hpp"
#include "src/files/process.hpp"

namespace fpdist::data {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr size_t kBlock = size_t{64} << 10;
struct Unpacker {
  std::string_view ending;
  const char* program;
};
constexpr std::array kUnpackers{Unpacker{".gz", "gzip"}, Unpacker{".zst", "zstd"}};

const Unpacker* unpacker_of(const std::string& path) {
  for (const Unpacker& one : kUnpackers)
    if (path.ends_with(one.ending)) return &one;
  return nullptr;
}

}  // namespace

/// A file, or what a program makes of it.
class LineReader::Source {
 public:
  Source(const std::string& path, const std::vector<std::string>& columns)
      : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    check<DataError>(file_.open(), path, ":1:1: cannot open the file (", std::strerror(errno), looked_in(path),
                     "): check data.path");
    const Unpacker* unpacker = unpacker_of(path);
    try {
      if (unpacker != nullptr)
        unpacking_.emplace(std::vector<std::string>{program_ = unpacker->program, "-dc", "--", path});
      else if (is_table(path))
        unpacking_.emplace(table_command(path, columns));
    } catch (const DataError& error) {
      throw DataError(unpacker == nullptr
                          ? text(path, ": ", error.what())
                          : text(path, ":1:1: ", error.what(), ": install ", program_, ", or unpack the file"));
    }
  }

  bool is_made() const { return unpacking_.has_value(); }

  /// The next bytes into `block`; 0 at the end.
  size_t read(std::string& block) {
    if (unpacking_) return read_unpacked(block);
    for (;;) {
      const ssize_t got = ::read(file_.get(), block.data(), block.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0)
        throw DataError(text(path_, ":1:1: cannot read the file (", std::strerror(errno), "): check data.path"));
      return static_cast<size_t>(got);
    }
  }

 private:
  size_t read_unpacked(std::string& block) {
    const size_t got = unpacking_->read(block.data(), block.size());
    if (got > 0) return got;
    const std::string how = unpacking_->end(std::chrono::seconds(5));
    if (how == "exit code 0") return 0;
    check<DataError>(!program_.empty(), path_, ": the table cannot be read: ", how);
    check<DataError>(false, path_, ":1:1: ", program_, " cannot unpack the file: ", how);
    return 0;
  }

  std::string path_, program_;
  files::FileHandle file_;
  std::optional<files::Process> unpacking_;
};

std::vector<std::string> file_columns(const ColumnNames& names, const std::vector<Column>& columns) {
  std::vector<std::string> all;
  for (const Column column : columns)
    for (const std::string& piece : names.pieces(column)) all.push_back(piece);
  return all;
}

LineReader::LineReader(const std::string& path, int32_t number, const std::vector<std::string>& columns)
    : source_(std::make_unique<Source>(path, columns)) {
  place_.file = path;
  place_.line = 0;
  place_.file_number = number;
}
LineReader::~LineReader() = default;

bool LineReader::is_plain() const { return !source_->is_made(); }

bool LineReader::fill() {
  buffer_.erase(0, std::exchange(begin_, 0));
  check<DataError>(buffer_.size() <= kMaxLineBytes, place_.file, ":", place_.line + 1, ":1: the line is longer than ",
                   kMaxLineBytes >> 20, " MiB: write one JSON object a line");
  std::string block(kBlock, '\0');
  const size_t got = source_->read(block);
  buffer_.append(block, 0, got);
  return got > 0;
}

bool LineReader::next(std::string& line) {
  size_t searched = begin_, end = std::string::npos;
  while ((end = buffer_.find('\n', searched)) == std::string::npos) {
    const size_t unread = buffer_.size() - begin_;
    if (fill()) {
      searched = unread;
      continue;
    }
    if (buffer_.empty()) return false;
    end = buffer_.size();  // the last line has no end
    break;
  }
  line.assign(buffer_, begin_, end - begin_);
  const size_t next_begin = std::min(end + 1, buffer_.size());
  bytes_ += static_cast<int64_t>(next_begin - begin_);
  begin_ = next_begin;
  ++place_.line;
  place_.first_byte = 1;
  if (place_.line == 1 && line.starts_with(kByteOrderMark)) {
    line.erase(0, kByteOrderMark.size());
    place_.first_byte += kByteOrderMark.size();
  }
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

}  // namespace fpdist::data
