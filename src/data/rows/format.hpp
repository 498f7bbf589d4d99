#pragma once
// data: what rows mean. The columns that each method reads, and a Row's samples.

#include <cstdint>
#include <optional>
#include <vector>

#include "fpdist/core/types.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

/// The columns of one kind of row.
struct RowFormat {
  std::vector<Column> required, optional;
};

/// What becomes of a row's group.
enum class RowGroup {
  kSample,   ///< one sample
  kPair,     ///< chosen, then rejected
  kRollouts  ///< a sample for each completion
};

/// The two kinds of rows that a method reads. All that this room knows of a method.
struct MethodFormats {
  RowFormat tokens, text;
  RowGroup group;
  bool scores_samples = false;  ///< every sample needs a token to be scored at
  std::vector<Column> all() const;
};
const MethodFormats& formats_of(Method method);

/// A row's samples and what was done to them.
struct MadeGroup {
  std::optional<Group> group;  ///< nothing when the row was dropped
  int64_t truncated_samples = 0;
};

struct GroupMaker {
  Method method;
  const ColumnNames& names;
  const Tokenizer& tokenizer;
  int64_t max_length;
  /// Throws DataError for a row of no format, of both, or whose lengths disagree.
  MadeGroup make(const Row& row) const;
};

}  // namespace fpdist::data
