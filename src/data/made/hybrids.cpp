#include "src/data/made/hybrids.hpp"

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/data/rows/line_reader.hpp"

namespace fpdist::data {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int32_t>;

Ids ids_of(const Json& row, const char* column, const std::string& where) {
  const auto found = row.find(column);
  check<DataError>(found != row.end() && found->is_array(), where, ": a row has a list of token ids in '", column, "'");
  Ids ids;
  for (const Json& id : *found) {
    check<DataError>(id.is_number_integer() && id >= 0 && id <= INT32_MAX, where, ": ", column, " holds ", id.dump(),
                     ", which is no token id");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

void each_row(const std::string& path, const std::function<void(Json row, const std::string& where)>& read) {
  std::error_code error;
  check<DataError>(std::filesystem::exists(path, error), path, ":1:1: cannot open the file: give one of JSON lines");
  LineReader reader(path, 0, {});
  for (std::string line; reader.next(line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = text(path, ":", reader.place().line);
    Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    check<DataError>(row.is_object(), where, ": the line is no JSON object");
    read(std::move(row), where);
  }
}

/// A completion as a hybrid row has it, behind `prefix`.
Json behind(const Ids& prefix, const Json& completion, const std::string& where) {
  Json made = completion;
  Ids ids = prefix;
  const Ids own = ids_of(completion, "ids", where);
  ids.insert(ids.end(), own.begin(), own.end());
  made["ids"] = ids, made["prefix_length"] = prefix.size();
  return made;
}

const Json& completions_of(const Json& row, const std::string& where) {
  const auto found = row.find("completions");
  check<DataError>(found != row.end() && found->is_array() && !found->empty(), where,
                   ": a row has completions, as fpdist_generate writes them");
  return *found;
}

}  // namespace

std::string prefix_prompts(const PrefixPromptOptions& options) {
  options.lengths.check();
  std::string lines;
  uint64_t number = 0;
  each_row(options.input, [&](Json row, const std::string& where) {
    Ids prompt = ids_of(row, "prompt_ids", where);
    const Ids demonstration = ids_of(row, "demonstration_ids", where);
    const int64_t length = options.lengths.length(options.seed, options.step, number++, std::ssize(demonstration));
    prompt.insert(prompt.end(), demonstration.begin(), demonstration.begin() + length);
    row.erase("demonstration_ids");
    row["prompt_ids"] = prompt, row["prefix_length"] = length;
    lines += row.dump() + "\n";
  });
  return lines;
}

std::string hybrid_groups(const std::string& plain, const std::string& hybrid) {
  std::vector<Json> rows;
  std::map<Ids, size_t> row_of;  // by prompt
  each_row(plain, [&](Json row, const std::string& where) {
    completions_of(row, where);
    row_of.emplace(ids_of(row, "prompt_ids", where), rows.size());
    rows.push_back(std::move(row));
  });
  each_row(hybrid, [&](const Json& row, const std::string& where) {
    Ids prompt = ids_of(row, "prompt_ids", where);
    const auto length = row.find("prefix_length");
    check<DataError>(length != row.end() && length->is_number_unsigned() && *length <= prompt.size(), where,
                     ": a row of a hybrid says in 'prefix_length' how many of its prompt_ids are a demonstration's");
    const Ids prefix(prompt.end() - length->get<std::ptrdiff_t>(), prompt.end());
    prompt.resize(prompt.size() - prefix.size());
    const auto found = row_of.find(prompt);
    check<DataError>(found != row_of.end(), where, ": ", plain,
                     " has no row of this prompt: generate both of the same");
    for (const Json& one : completions_of(row, where))
      rows[found->second]["completions"].push_back(behind(prefix, one, where));
  });
  std::string lines;
  for (Json& row : rows) {
    for (Json& one : row["completions"]) one.erase("old_logps");
    lines += row.dump() + "\n";
  }
  return lines;
}

}  // namespace fpdist::data
