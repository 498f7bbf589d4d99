#pragma once
// data: the lines of data files, packed ones among them.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/data/rows/columns.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

/// No line is longer; one that is was hardly meant as one.
constexpr size_t kMaxLineBytes = size_t{64} << 20;

/// The file's columns that make `columns` of ours.
std::vector<std::string> file_columns(const ColumnNames& names, const std::vector<Column>& columns);

/// Lines of one file without their ends; says where each came from. A byte-order mark at the start is skipped.
class LineReader {
 public:
  /// .gz and .zst are unpacked by gzip and zstd; rows of a table come as JSON lines from table_rows.py, with `columns`
  /// of theirs ("*": all) and null in the others. `number`: of the file among others. Throws DataError where the file
  /// or the program is missing.
  LineReader(const std::string& path, int32_t number, const std::vector<std::string>& columns);
  ~LineReader();
  /// False at the end. Throws DataError for a file that cannot be read or unpacked, or a line over kMaxLineBytes.
  bool next(std::string& line);
  const LinePlace& place() const { return place_; }
  /// Whether the file is read as it is, and how many bytes of it are.
  bool is_plain() const;
  int64_t bytes() const { return bytes_; }

 private:
  class Source;
  bool fill();
  std::unique_ptr<Source> source_;
  LinePlace place_;
  int64_t bytes_ = 0;
  std::string buffer_;
  size_t begin_ = 0;  // of what of the buffer was not yet given out
};

}  // namespace fpdist::data
