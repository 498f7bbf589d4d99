#pragma once
// data: rows that wait for their text to be encoded, and become groups together.

#include <memory>
#include <span>
#include <vector>

#include "fpdist/data/tokenizer.hpp"
#include "src/data/rows/encoded_row.hpp"
#include "src/data/rows/format.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

/// A row of token ids is made at once, one of text when it is encoded.
struct WaitingRow {
  /// `format` is what `maker` recognised; `maker` outlives it. Throws DataError.
  WaitingRow(Row&& of, const RowFormat& format, const GroupMaker& maker);
  std::unique_ptr<const Row> row;    ///< where `text` looks
  std::unique_ptr<EncodedRow> text;  ///< null: of token ids
  MadeGroup made;
};

/// The groups of `rows`, in order; text goes through `tokenizer` as one batch. A row that cannot be encoded has an
/// error. Throws DataError for a tokenizer that cannot be opened, or for all rows that were on their way to a helper
/// process that was lost.
std::vector<MadeGroup> make_groups(std::span<WaitingRow> rows, GroupMaker& maker, Tokenizer& tokenizer);

}  // namespace fpdist::data
