#pragma once
// data: the columns that rows have, by our names and by the file's.

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fpdist::data {

/// Columns by our names; the file's may differ (DataOptions::columns).
enum class Column {
  kInputIds,
  kLabels,
  kPromptIds,
  kChosenIds,
  kRejectedIds,
  kMargin,
  kCompletions,
  kPrompt,
  kCompletion,
  kChosen,
  kRejected,
  kRewards,
  kAdvantages,
  kIds,
  kReward,
  kAdvantage,
  kOldLogps,
  kRefLogps,
  kMask,  // inside completions:[{...}]
  kTruncated,
  kFinishReason,  // both beside completions or inside completions:[{...}]
  kRefChosenLogps,
  kRefRejectedLogps,
  kText,
  kMessages,
  kTools,
  kChatTemplateKwargs,
  kCompletionIds,
  kUid,
};
inline constexpr size_t kColumns = 29;
std::string_view name_of(Column column);

/// The file's name of every column of ours. Throws ConfigError for an unknown or ambiguous rename.
class ColumnNames {
 public:
  explicit ColumnNames(const std::map<std::string, std::string>& renames);
  std::optional<Column> find(std::string_view name_in_file) const;
  /// "prompt + completion", as the file spells them.
  std::string joined(const std::vector<Column>& columns) const;
  const std::string& in_file(Column column) const { return names_[static_cast<size_t>(column)]; }

 private:
  std::array<std::string, kColumns> names_;
};

}  // namespace fpdist::data
