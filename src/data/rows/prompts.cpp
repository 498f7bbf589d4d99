#include "fpdist/data/prompts.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/data/rows/data_files.hpp"
#include "src/data/rows/line_reader.hpp"

namespace fpdist::data {
namespace {

using Json = nlohmann::json;

/// What encodes a row's prompt; its `text` is empty where there are ids.
TextRequest request_of(const Json& prompt, const std::string& where) {
  if (prompt.is_string()) return {.kind = TextRequest::Kind::kText, .text = prompt.get<std::string>()};
  check<DataError>(prompt.is_array() && !prompt.empty(), where,
                   ": prompt is neither a string nor a list of {role, content}");
  const Json chat{{"messages", prompt}, {"tools", nullptr}, {"kwargs", Json::object()}};
  return {.kind = TextRequest::Kind::kChat, .text = chat.dump(), .generation_prompt = true};
}

std::vector<int32_t> ids_of(const Json& ids, const std::string& column, const std::string& where) {
  check<DataError>(ids.is_array(), where, ": ", column, " is no list of token ids");
  std::vector<int32_t> tokens;
  for (const Json& id : ids) {
    check<DataError>(id.is_number_integer() && id >= 0 && id <= INT32_MAX, where, ": ", column, " holds ", id.dump(),
                     ", which is no token id");
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

/// Rows of all files, and what of them is still to be encoded.
class PromptReader {
 public:
  explicit PromptReader(const PromptFiles& files) : files_(files) {
    for (const auto& [ours, theirs] : files.columns) {
      if (ours == "prompt") prompt_ = theirs;
      if (ours == "prompt_ids") ids_ = theirs;
      if (ours == "demonstration") demonstration_ = theirs;
      if (ours == "demonstration_ids") demonstration_ids_ = theirs;
    }
  }

  void read(const std::string& path) {
    std::error_code error;
    check<DataError>(std::filesystem::exists(path, error), path, ":1:1: cannot open the file (", std::strerror(ENOENT),
                     looked_in(path), "): check ", files_.key);
    LineReader reader(path, 0, {"*"});
    for (std::string line; reader.next(line);)
      if (line.find_first_not_of(" \t\r") != std::string::npos) add(line, row_name(path, reader.place().line));
  }

  std::vector<PromptRow> finish(Tokenizer& tokenizer) {
    check<DataError>(!rows_.empty(), files_.path.front(), ":1:1: the file has no rows");
    if (!requests_.empty()) encode(tokenizer);
    for (size_t r = 0; r < rows_.size() && files_.demonstrations; ++r)
      check<DataError>(rows_[r].demonstration.size() >= 2, where_[r], ": the demonstration has ",
                       rows_[r].demonstration.size(), " tokens, and a completion that begins with it goes on by itself",
                       ": give one of 2 or more, or leave the row out");
    return std::move(rows_);
  }

 private:
  void add(const std::string& line, const std::string& where) {
    Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    check<DataError>(row.is_object(), where, ": the line is no JSON object");
    check<DataError>(row.contains(ids_) != row.contains(prompt_), where, ": a row has one of ", ids_, " and ", prompt_);
    check<DataError>(!row.contains("completions"), where, ": the row has completions already");
    const bool has_ids = row.contains(ids_);
    const Json& given = row[has_ids ? ids_ : prompt_];
    PromptRow made{.token = {}, .prompt = given.dump()};
    if (has_ids)
      made.token = ids_of(given, "prompt_ids", where);
    else
      ask(request_of(given, where), &PromptRow::token);
    row.erase(has_ids ? ids_ : prompt_);
    if (files_.demonstrations) take_demonstration(row, made, where);
    made.columns = row.dump();
    rows_.push_back(std::move(made)), where_.push_back(where);
  }
  void take_demonstration(Json& row, PromptRow& made, const std::string& where) {
    check<DataError>(row.contains(demonstration_ids_) != row.contains(demonstration_), where,
                     ": rollout.num_hybrids asks for completions that begin as a demonstration does, and the row has ",
                     row.contains(demonstration_) ? "both of " : "none: give it one of ", demonstration_ids_, " and ",
                     demonstration_, " (data.columns renames), or set rollout.num_hybrids: 0");
    const bool has_ids = row.contains(demonstration_ids_);
    const Json& given = row[has_ids ? demonstration_ids_ : demonstration_];
    if (has_ids) {
      made.demonstration = ids_of(given, demonstration_ids_, where);
    } else {
      check<DataError>(given.is_string(), where, ": ", demonstration_, " is no string");
      ask({.kind = TextRequest::Kind::kText, .text = given.get<std::string>(), .bare = true},
          &PromptRow::demonstration);
    }
    row.erase(has_ids ? demonstration_ids_ : demonstration_);
  }
  /// For the row that comes next.
  void ask(TextRequest request, std::vector<int32_t> PromptRow::*into) {
    requests_.push_back(std::move(request));
    asked_.push_back({rows_.size(), into});
  }
  void encode(Tokenizer& tokenizer) {
    check<DataError>(tokenizer.refusal().empty(), where_[asked_.front().row], ": ", tokenizer.refusal());
    std::vector<EncodedText> encoded = tokenizer.encode(requests_);
    for (size_t i = 0; i < asked_.size(); ++i) {
      check<DataError>(encoded[i].error.empty(), where_[asked_[i].row], ": ", encoded[i].error);
      rows_[asked_[i].row].*asked_[i].into = std::move(encoded[i].id);
    }
  }

  struct Asked {
    size_t row = 0;
    std::vector<int32_t> PromptRow::*into = nullptr;
  };
  const PromptFiles& files_;
  std::string prompt_ = "prompt", ids_ = "prompt_ids";  ///< as the files call them
  std::string demonstration_ = "demonstration", demonstration_ids_ = "demonstration_ids";
  std::vector<PromptRow> rows_;
  std::vector<std::string> where_;  ///< [rows]
  std::vector<TextRequest> requests_;
  std::vector<Asked> asked_;  ///< [requests]
};

}  // namespace

std::vector<PromptRow> read_prompts(const PromptFiles& files, Tokenizer& tokenizer) {
  PromptReader reader(files);
  for (const std::string& path : data_files(files.path)) reader.read(path);
  return reader.finish(tokenizer);
}

}  // namespace fpdist::data
