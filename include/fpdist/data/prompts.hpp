#pragma once
// data: prompts that a model is to complete, from JSON lines (.gz, .zst) or tables (.parquet, .arrow): {"prompt_ids":
// [...]} or {"prompt": a string, or a conversation, a list of {role, content}}. All other columns are kept for whoever
// judges completions.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {

struct PromptRow {
  std::vector<int32_t> token;
  std::string prompt;                       ///< the row's prompt or prompt_ids, as JSON
  std::string columns = "{}";               ///< the row's other columns, a JSON object
  std::vector<int32_t> demonstration = {};  ///< PromptFiles::demonstrations
};

/// Where prompts are and how they are found.
struct PromptFiles {
  std::vector<std::string> path;                    ///< files, folders and patterns, as DataOptions::path has them
  std::map<std::string, std::string> columns = {};  ///< our name, prompt or prompt_ids -> the file's
  std::string key = "rollout.prompts";              ///< what named them, for messages
  /// Every row has a demonstration of 2 tokens or more: demonstration_ids, or a text in demonstration, which is encoded
  /// alone. It is no other column then.
  bool demonstrations = false;
};

/// Of every file, in order: a string as the tokenizer encodes it, a conversation by the chat template with what opens
/// the assistant's turn. Throws DataError("file:line: reason") for what is no such row, text that the tokenizer
/// refuses, and files without rows.
std::vector<PromptRow> read_prompts(const PromptFiles& files, Tokenizer& tokenizer);

}  // namespace fpdist::data
