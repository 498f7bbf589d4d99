#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/types.hpp"

namespace fpdist::data {

/// Which end of a text row that is too long stays.
enum class Truncation { kKeepStart, kKeepEnd };
inline constexpr std::array<std::pair<Truncation, std::string_view>, 2> kTruncations{
    {{Truncation::kKeepStart, "keep_start"}, {Truncation::kKeepEnd, "keep_end"}}};

struct DataOptions {
  /// JSONL files, read in this order.
  std::vector<std::string> path;
  /// What text rows are read with: "", the model's own tokenizer; a directory with another; or "bytes", one token a
  /// byte. A preset without a directory reads bytes.
  std::string tokenizer;
  /// Text workers that encode and render, Python processes: at most so many; 0: as many as the host has cores for us.
  int text_workers = 0;
  /// Longest sample in tokens, prompt and completion. Longer text rows are cut (reward rows dropped); one that nothing
  /// would be learned from, such as a prompt alone that reaches it, is dropped; both are counted. Pre-tokenised rows
  /// are used exactly as they are: a longer one is an error.
  int64_t max_length = 1024;
  Truncation truncation_mode = Truncation::kKeepStart;
  /// sft rows with prompt and completion: only the completion is learned; false: all of it.
  bool completion_only_loss = true;
  /// sft conversations: only what an assistant wrote is learned, by the chat template's generation markers or, where it
  /// has none, by rendering turn by turn.
  bool assistant_only_loss = false;
  /// Shuffle every epoch by (seed, epoch); false keeps file order.
  bool shuffle = true;
  /// Renames columns: our name -> the file's name, e.g. {chosen: preferred}; fields inside `completions` as well.
  std::map<std::string, std::string> columns;

  static std::span<const Key> keys();
};

}  // namespace fpdist::data
