#pragma once
// data: columns that nobody reads and that are likely meant as one that a row may have. A misspelt one would be left
// out in silence, and with it what it says.

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "src/data/rows/format.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

class NearColumns {
 public:
  explicit NearColumns(const ColumnNames& names) : names_(names) {}
  /// Throws DataError, naming the column that is meant and how to say otherwise, where `row` has a column that is
  /// nearly one of the optional ones of its `format`, or that other systems call so, and lacks that one.
  void check(const Row& row, const RowFormat& format);

 private:
  std::optional<Column> meant(const std::string& name, const RowFormat& format) const;
  const ColumnNames& names_;
  std::map<std::pair<const RowFormat*, std::string>, std::optional<Column>> known_;  // by name as rows have it
};

}  // namespace fpdist::data
