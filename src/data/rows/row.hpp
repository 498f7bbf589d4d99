#pragma once
// data: one JSONL line as typed columns, before anybody decides what they mean.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "src/data/rows/columns.hpp"
#include "src/data/rows/messages.hpp"

namespace fpdist::data {

/// Where a line came from: every message starts with it.
struct LinePlace {
  std::string file;
  int64_t line = 1;         ///< 1-based
  size_t first_byte = 1;    ///< byte number of the line's first character (4 behind a byte-order mark)
  int32_t file_number = 0;  ///< of the files that are read
};

/// Throws DataError("file:line:byte: reason") for the character at `offset` of the line; "file: row N: reason" where
/// the file is a table.
[[noreturn]] void fail_at(const LinePlace& place, size_t offset, std::string_view reason);

/// One `{ids, reward, ...}` of a pre-tokenised GRPO row.
struct TokenCompletion {
  size_t offset = 0;
  std::vector<int32_t> ids;
  std::optional<double> reward, advantage;
  std::optional<std::vector<double>> old_logps, ref_logps;
  std::variant<double, std::vector<double>> weight = 1.0;
  std::optional<std::vector<int32_t>> mask;
  std::optional<bool> truncated;
  int32_t prefix_length = 0;
};

/// JSON as the line has it.
struct RawJson {
  std::string json;
};

struct Cell {
  size_t offset = 0;  ///< of the value in the line
  std::variant<double, std::string, std::vector<int32_t>, std::vector<double>, std::vector<std::string>,
               std::vector<TokenCompletion>, ChatMessages, std::vector<ChatMessages>, RawJson>
      value;
};

struct Row {
  LinePlace place;
  bool has_verdicts = false;  ///< `labels` holds true or false, which are 1 and 0 in its cell
  std::array<std::optional<Cell>, kColumns> cell;
  std::vector<std::string> names;  ///< every column of the line, as the file spells it
  /// Those of them that were not wanted, and `completions.NAME` for fields inside completions; may repeat.
  std::vector<std::string> unread;
  bool has(Column column) const { return cell[static_cast<size_t>(column)].has_value(); }
  size_t offset(Column column) const { return cell[static_cast<size_t>(column)]->offset; }
  template <typename T>
  const T& get(Column column) const {
    return std::get<T>(cell[static_cast<size_t>(column)]->value);
  }
  /// Whether the column's value is a T.
  template <typename T>
  bool holds(Column column) const {
    return std::holds_alternative<T>(cell[static_cast<size_t>(column)]->value);
  }
};

/// Parses lines; keeps simdjson's buffers between them.
class RowParser {
 public:
  explicit RowParser(const ColumnNames& names);
  ~RowParser();
  /// Parses `line`, reading only `wanted` columns; others are checked as JSON and dropped. The line grows by the
  /// padding that simdjson reads past the end. Throws DataError.
  Row parse(std::string& line, const LinePlace& place, const std::vector<Column>& wanted);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fpdist::data
