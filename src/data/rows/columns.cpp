#include "src/data/rows/columns.hpp"

#include <algorithm>

#include "fpdist/core/error.hpp"

namespace fpdist::data {
namespace {

constexpr std::array<std::string_view, kColumns> kNames{"input_ids",
                                                        "labels",
                                                        "prompt_ids",
                                                        "chosen_ids",
                                                        "rejected_ids",
                                                        "margin",
                                                        "completions",
                                                        "prompt",
                                                        "completion",
                                                        "chosen",
                                                        "rejected",
                                                        "rewards",
                                                        "advantages",
                                                        "ids",
                                                        "reward",
                                                        "advantage",
                                                        "old_logps",
                                                        "ref_logps",
                                                        "mask",
                                                        "truncated",
                                                        "finish_reason",
                                                        "ref_chosen_logps",
                                                        "ref_rejected_logps",
                                                        "text",
                                                        "messages",
                                                        "tools",
                                                        "chat_template_kwargs",
                                                        "completion_ids",
                                                        "uid",
                                                        "weight",
                                                        "label",
                                                        "rejected_prompt_ids",
                                                        "prefix_length",
                                                        "source",
                                                        "context"};
constexpr std::string_view kTag = "kto_tag";  // LLaMA-Factory's name of it

/// Columns of text, which several of the file's may make.
constexpr std::array kTexts{Column::kPrompt, Column::kCompletion, Column::kChosen, Column::kRejected, Column::kText};
constexpr std::string_view kPlus = " + ";

std::vector<std::string> split(std::string_view names) {
  std::vector<std::string> pieces;
  for (size_t at; (at = names.find(kPlus)) != std::string_view::npos; names.remove_prefix(at + kPlus.size()))
    pieces.emplace_back(names.substr(0, at));
  pieces.emplace_back(names);
  return pieces;
}

bool has(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string_view name_of(Column column) { return kNames[static_cast<size_t>(column)]; }

ColumnNames::ColumnNames(const std::map<std::string, std::string>& renames) {
  std::copy(kNames.begin(), kNames.end(), names_.begin());
  for (const auto& [ours, theirs] : renames) {
    const auto found = std::find(kNames.begin(), kNames.end(), ours);
    if (found == kNames.end()) {
      std::string known;
      for (const std::string_view name : kNames) known += text(known.empty() ? "" : ", ", name);
      throw ConfigError(text("data.columns renames '", ours, "', which is no column of ours: use one of ", known));
    }
    names_[static_cast<size_t>(found - kNames.begin())] = theirs;
  }
  std::vector<std::string> all;
  for (size_t c = 0; c < kColumns; ++c) {
    pieces_[c] = split(names_[c]);
    // A usual name of texts: whoever calls another column of ours so has no such one.
    if (static_cast<Column>(c) == Column::kContext && !renames.contains(std::string(kNames[c])) &&
        std::any_of(renames.begin(), renames.end(),
                    [&](const auto& rename) { return has(split(rename.second), kNames[c]); }))
      pieces_[c].clear();
    check<ConfigError>(pieces_[c].size() <= 1 || std::count(kTexts.begin(), kTexts.end(), static_cast<Column>(c)) == 1,
                       "data.columns: '", kNames[c], "' is no text and cannot be made of several columns: name one");
    all.insert(all.end(), pieces_[c].begin(), pieces_[c].end());
  }
  for (const auto& [ours, theirs] : renames)
    for (const std::string& piece : split(theirs))
      check<ConfigError>(std::count(all.begin(), all.end(), piece) == 1, "data.columns: two columns of ours are '",
                         piece, "' in the file: rename each to a column of its own");
}

std::string ColumnNames::joined(const std::vector<Column>& columns) const {
  std::string all;
  for (const Column column : columns) all += text(all.empty() ? "" : " + ", in_file(column));
  return all;
}

std::optional<FileColumn> ColumnNames::find(std::string_view name_in_file) const {
  for (size_t c = 0; c < kColumns; ++c) {
    const auto found = std::find(pieces_[c].begin(), pieces_[c].end(), name_in_file);
    if (found != pieces_[c].end())
      return FileColumn{static_cast<Column>(c), static_cast<size_t>(found - pieces_[c].begin())};
  }
  if (name_in_file == kTag && in_file(Column::kLabel) == name_of(Column::kLabel)) return FileColumn{Column::kLabel};
  return std::nullopt;
}

}  // namespace fpdist::data
