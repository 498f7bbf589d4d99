#pragma once
// data: what rows mean. The columns that each method reads, and the samples of rows of token ids.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fpdist/core/method.hpp"
#include "fpdist/data/options.hpp"
#include "fpdist/data/sample.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

/// The columns of one kind of row.
struct RowFormat {
  std::vector<Column> required, optional;
  bool is_flat = false;  ///< one of several completions, which other rows have
};

/// What becomes of a row's group.
enum class RowGroup {
  kSample,   ///< one sample
  kPair,     ///< chosen, then rejected
  kRollouts  ///< a sample for each completion
};

/// The kinds of rows that a method reads. All that this room knows of a method.
struct MethodFormats {
  std::vector<RowFormat> tokens, text;
  RowGroup group;
  bool has_verdicts = false;    ///< rows say whether their completion is wanted: a reward of 1 or 0
  bool scores_samples = false;  ///< every sample needs a token to be scored at; what is too long is dropped, never cut
  bool judges_steps = false;    ///< labels are 0 or 1 at the tokens that are judged
  std::vector<Column> all() const;
};
const MethodFormats& formats_of(Method method);

/// A row's samples and what was done to them.
struct MadeGroup {
  std::optional<Group> group;  ///< nothing when the row was dropped
  int64_t truncated_samples = 0;
  std::string uid = {};           ///< where rows are grouped by it
  std::string error = {};         ///< why the row cannot be read; nothing else is there then
  bool prompt_differs = false;    ///< alone the prompt has tokens that it does not have in front of an answer
  bool has_empty_answer = false;  ///< one has no token of its own
};

/// How rows become groups.
struct GroupMaker {
  Method method;
  const ColumnNames& names;
  const DataOptions& options;
  bool marks_generation = false;  ///< the tokenizer's chat template does
  int32_t bos_id = -1;            ///< the tokenizer's; -1: none

  /// Throws DataError for a row of no format or of several.
  const RowFormat& recognise(const Row& row) const;
  bool is_text(const RowFormat& format) const;
  void check_foreign(const Row& row, const RowFormat& format) const;
  /// The group of a row of token ids, which is used as it is. Throws DataError where lengths disagree.
  MadeGroup make_tokens(const Row& row) const;
};

/// Tokens and the completion's part of them, which are its targets.
Sample make_sample(std::vector<int32_t> token, size_t prompt_length);

}  // namespace fpdist::data
