#pragma once
// data: JSONL to groups, one object a line, read with simdjson line by line. Rows are recognised by their columns:
//   SFT      input_ids + labels                          | prompt + completion
//   DPO, RM  prompt_ids + chosen_ids + rejected_ids [+ margin]  | prompt + chosen + rejected [+ margin]
//            DPO: [+ ref_chosen_logps + ref_rejected_logps], each the answer's sum or a list with a number a token
//   GRPO     prompt_ids + completions:[{ids, reward|advantage, old_logps?, ref_logps?, mask?, truncated?}]
//            | prompt + completions:[text] + rewards:[number] (or advantages:[number])
// Every row may say which completions their sampler cut, as truncated: true or finish_reason: "length" ("abort" is a
// cut as well), a list of them where there are several (chosen first); inside the objects of GRPO's token rows.
// Pre-tokenised rows are used exactly as they are. Text rows: prompt and completion are encoded apart and joined
// (with the byte tokenizer the prompt is always a token prefix of the whole), EOS is appended to every completion that
// does not end in it and was not cut, the end is cut at max_length, a row whose prompt alone reaches max_length is
// dropped (TRL's rules).

#include <cstdint>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/core/types.hpp"
#include "fpdist/data/options.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {

struct Dataset {
  std::vector<Group> group;  ///< group[i].id == i
  int64_t dropped_rows = 0;  ///< text rows whose prompt alone reaches max_length
  int64_t truncated_samples = 0;
  int32_t max_token_id = -1;  ///< checked against the model's vocabulary by the trainer
};

/// Reads every file of options.path for `method`. Not collective: each rank may call it and gets the same value.
/// Columns that the method does not read are checked as JSON; `log` hears of them, as a warning where another method
/// reads them. old_logps and ref_logps: for every completion
/// of the data set or for none. A byte-order mark, CRLF and blank lines at the end are tolerated. `log` hears of
/// dropped and truncated rows, one warning each. Throws DataError("file:line:byte: reason"; line and byte from 1, the
/// byte within its line) for a missing file, bad JSON, bad UTF-8, a wrong type, a missing, doubled or mixed-up column,
/// lengths that do not match, a negative token id, a token row over max_length, or no rows at all; ConfigError for
/// options that make no sense.
Dataset read_dataset(const DataOptions& options, Method method, const Tokenizer& tokenizer, LogSink& log);

}  // namespace fpdist::data
