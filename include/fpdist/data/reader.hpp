#pragma once
// data: JSONL, Parquet and Arrow files to groups; lines are read with simdjson. Rows are recognised by their columns:
//   SFT      input_ids + labels                          | prompt + completion | text | messages
//   DPO, CPO, ORPO, RM
//            prompt_ids + chosen_ids + rejected_ids [+ margin, rejected_prompt_ids: where that answer has its own]
//            | [prompt +] chosen + rejected [+ margin]. DPO: [+ ref_chosen_logps + ref_rejected_logps], sums or lists
//   GRPO     prompt_ids + completions:[{ids, reward|advantage, old_logps?, ref_logps?, mask?, truncated?,
//            prefix_length?}]
//            | prompt + completions:[text] + rewards:[number] (or advantages:[number])
//            flat, with data.group_by: prompt_ids + completion_ids | prompt + completion, + reward (or advantage)
//            [+ uid, old_logps, ref_logps, mask, prefix_length of token rows] | messages + reward: learned where an
//            assistant speaks
//   PRM      input_ids + labels: 0 or 1 at the last token of what is judged | prompt + completions:[text] +
//   labels:[bool] KTO      prompt_ids + completion_ids + label         | prompt + completion + label: whether it is
//   wanted
// Where adapter.prefix_by asks for it, each row says in `source` or `context` which prefix it stands behind.
// Rows (but KTO's) may have a weight of their loss, and say which completions were cut, by truncated: true
// or finish_reason: "length" ("abort" is a cut too), a list where there are several (chosen first); inside the objects
// of GRPO's as well. Pre-tokenised rows are used exactly as they are. In rows of text prompt, completion, chosen,
// rejected and each of completions are strings, or conversations: lists of {role, content, ...}, beside them tools and
// chat_template_kwargs for the chat template. They are encoded by TRL's rules: the prompt alone (a conversation's with
// what opens the assistant's turn) and together with each answer, whose tokens are those behind what both have in
// common; EOS behind every text that does not end in it and was not cut, never behind a conversation; cut at
// max_length.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/core/method.hpp"
#include "fpdist/data/options.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {

/// The row of a group, the first of several.
struct RowPlace {
  int32_t file = 0;  ///< in Dataset::file
  int64_t line = 1;  ///< 1-based
};

/// Groups that are not in memory. Any thread.
class GroupSource {
 public:
  virtual ~GroupSource() = default;
  virtual Group group(int64_t id) const = 0;
  /// The tokens of the group's first sample, int32s at any address, where they lie: for who looks at many groups.
  /// Nothing where they lie nowhere.
  virtual std::optional<std::string_view> first_tokens(int64_t) const { return std::nullopt; }
};

struct Dataset {
  std::vector<Group> group;  ///< group[i].id == i; empty where `source` has them
  std::shared_ptr<const GroupSource> source = nullptr;
  int64_t size() const { return static_cast<int64_t>(source ? place.size() : group.size()); }
  /// A copy of this group, wherever it is. Throws DataError for a source that is damaged.
  Group get(int64_t id) const;
  std::vector<RowPlace> place;    ///< [group]
  std::vector<std::string> file;  ///< that were read, by the names they were given
  std::vector<int32_t> entry;     ///< [file] place in DataOptions::path of what named it
  /// "pairs.jsonl:4", for messages.
  std::string where(size_t group) const;
  int64_t dropped_rows = 0;  ///< text rows that max_length leaves nothing of that could be learned
  int64_t truncated_samples = 0;
  int64_t differing_prompts = 0;  ///< text rows whose prompt alone has tokens that it has in front of no answer
  /// Empty, or [groups]: those with equal numbers follow each other in an epoch (data.group_by of pairs).
  std::vector<int64_t> unit;
  std::vector<std::string> skipped;  ///< what was wrong with the rows that data.on_error: skip left out
  int32_t max_token_id = -1;         ///< checked against the model's vocabulary by the trainer
};

/// How far reading has come.
struct ReadState {
  int64_t rows = 0;                      ///< that are read and encoded
  int64_t text_bytes = 0;                ///< of their lines
  int64_t file_bytes = 0, of_bytes = 0;  ///< of the files: done, in all; a packed file is done at its end
};
using ReadWatch = std::function<void(const ReadState&)>;

/// Reads every file of options.path, a folder's or a pattern's in the order of their names, for `method`. Not
/// collective: each rank may call it and gets the same value. Columns that the method does not read are checked as
/// JSON; `log` hears of them, as a warning where another method reads them. old_logps and ref_logps: for every
/// completion of the data set or for none. A byte-order mark, CRLF and blank lines at the end are tolerated. `log`
/// hears of dropped and cut rows and of prompts that differ, one warning each. Throws DataError("file:line:byte:
/// reason"; line and byte from 1, the byte within its line) for a missing file, bad JSON, bad UTF-8, a wrong type, a
/// missing, doubled or mixed-up column, lengths that do not match, a negative token id, a token row over max_length, no
/// rows at all, or text that `tokenizer` refuses, cannot encode or whose chat template raises; LostRequests' words with
/// the rows that were on their way when a helper process was lost; ConfigError for options that make no sense. With
/// on_error skip a row's DataError leaves it out, up to max_skipped of them. `watch` hears after every few thousand
/// rows, and at the end.
Dataset read_dataset(const DataOptions& options, Method method, Tokenizer& tokenizer, LogSink& log,
                     const ReadWatch& watch = {});

}  // namespace fpdist::data
