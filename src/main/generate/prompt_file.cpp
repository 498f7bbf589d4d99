#include "src/main/generate/prompt_file.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::main_program {
namespace {

using Json = nlohmann::json;

/// What encodes a row's prompt; its `text` is empty where there are ids.
data::TextRequest request_of(const Json& prompt, const std::string& where) {
  if (prompt.is_string()) return {.kind = data::TextRequest::Kind::kText, .text = prompt.get<std::string>()};
  check<DataError>(prompt.is_array() && !prompt.empty(), where,
                   ": prompt is neither a string nor a list of {role, content}");
  const Json chat{{"messages", prompt}, {"tools", nullptr}, {"kwargs", Json::object()}};
  return {.kind = data::TextRequest::Kind::kChat, .text = chat.dump(), .generation_prompt = true};
}

std::vector<int32_t> ids_of(const Json& ids, const std::string& where) {
  check<DataError>(ids.is_array(), where, ": prompt_ids is no list of token ids");
  std::vector<int32_t> tokens;
  for (const Json& id : ids) {
    check<DataError>(id.is_number_integer() && id >= 0 && id <= INT32_MAX, where, ": prompt_ids holds ", id.dump(),
                     ", which is no token id");
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

}  // namespace

std::vector<PromptRow> read_prompts(const std::string& path, data::Tokenizer& tokenizer) {
  std::ifstream file(path);
  check<DataError>(file.is_open(), path, ":1:1: cannot open the file (", std::strerror(errno), looked_in(path),
                   "): check --prompts");
  std::vector<PromptRow> rows;
  std::vector<data::TextRequest> requests;
  std::vector<std::pair<size_t, std::string>> asked;  // row and place of each request
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = text(path, ":", number);
    Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    check<DataError>(row.is_object(), where, ": the line is no JSON object");
    check<DataError>(row.contains("prompt_ids") != row.contains("prompt"), where,
                     ": a row has one of prompt_ids and prompt");
    check<DataError>(!row.contains("completions"), where, ": the row has completions already");
    PromptRow made;
    if (row.contains("prompt_ids")) {
      made.token = ids_of(row["prompt_ids"], where);
    } else {
      requests.push_back(request_of(row["prompt"], where));
      asked.emplace_back(rows.size(), where);
    }
    row.erase("prompt_ids"), row.erase("prompt");
    made.others = std::move(row);
    rows.push_back(std::move(made));
  }
  check<DataError>(!file.bad(), path, ": cannot read the file");
  check<DataError>(!rows.empty(), path, ":1:1: the file has no rows");
  if (requests.empty()) return rows;
  check<DataError>(tokenizer.refusal().empty(), asked.front().second, ": ", tokenizer.refusal());
  std::vector<data::EncodedText> encoded = tokenizer.encode(requests);
  for (size_t i = 0; i < asked.size(); ++i) {
    check<DataError>(encoded[i].error.empty(), asked[i].second, ": ", encoded[i].error);
    rows[asked[i].first].token = std::move(encoded[i].id);
  }
  return rows;
}

}  // namespace fpdist::main_program
