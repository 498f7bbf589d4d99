#pragma once
// data: the lines of data files, packed ones among them.

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "src/data/rows/row.hpp"

namespace fpdist::data {

/// No line is longer; one that is was hardly meant as one.
constexpr size_t kMaxLineBytes = size_t{64} << 20;

/// Lines of one file without their ends; says where each came from. A byte-order mark at the start is skipped.
class LineReader {
 public:
  /// .gz and .zst are unpacked by gzip and zstd. Throws DataError where the file or the program is missing.
  explicit LineReader(const std::string& path);
  ~LineReader();
  /// False at the end. Throws DataError for a file that cannot be read or unpacked, or a line over kMaxLineBytes.
  bool next(std::string& line);
  const LinePlace& place() const { return place_; }

 private:
  class Source;
  bool fill();
  std::unique_ptr<Source> source_;
  LinePlace place_;
  std::string buffer_;
  size_t begin_ = 0;  // of what of the buffer was not yet given out
};

}  // namespace fpdist::data
