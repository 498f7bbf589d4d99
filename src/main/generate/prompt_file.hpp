#pragma once
// main: a file of prompts.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/data/tokenizer.hpp"

namespace fpdist::main_program {

struct PromptRow {
  std::vector<int32_t> token;
  nlohmann::json others;  ///< the row's other columns, as they are
};

/// Rows of {"prompt_ids"} or {"prompt"}: a string as the tokenizer encodes it, or a conversation by the chat template
/// with what opens the assistant's turn. Throws DataError with file and line.
std::vector<PromptRow> read_prompts(const std::string& path, data::Tokenizer& tokenizer);

}  // namespace fpdist::main_program
