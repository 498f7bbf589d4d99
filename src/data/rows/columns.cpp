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
                                                        "uid"};

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
  for (const auto& [ours, theirs] : renames)
    check<ConfigError>(std::count(names_.begin(), names_.end(), theirs) == 1, "data.columns: two columns of ours are '",
                       theirs, "' in the file: rename each to a column of its own");
}

std::string ColumnNames::joined(const std::vector<Column>& columns) const {
  std::string all;
  for (const Column column : columns) all += text(all.empty() ? "" : " + ", in_file(column));
  return all;
}

std::optional<Column> ColumnNames::find(std::string_view name_in_file) const {
  const auto found = std::find(names_.begin(), names_.end(), name_in_file);
  if (found == names_.end()) return std::nullopt;
  return static_cast<Column>(found - names_.begin());
}

}  // namespace fpdist::data
