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
  kWeight,  // beside completions or inside completions:[{...}]
  kLabel,   // of KTO's rows: whether the completion is wanted
  kRejectedPromptIds,
  kPrefixLength,  // beside a flat row's completion or inside completions:[{...}]
  kSource,
  kContext,
};
inline constexpr size_t kColumns = 35;
std::string_view name_of(Column column);

/// A column of the file: one of ours, or a piece of it where the file has its text in several.
struct FileColumn {
  Column column;
  size_t piece = 0;
};

/// The file's names of every column of ours.
class ColumnNames {
 public:
  /// Throws ConfigError for an unknown or ambiguous rename, and for a column that is no text made of several.
  explicit ColumnNames(const std::map<std::string, std::string>& renames);
  std::optional<FileColumn> find(std::string_view name_in_file) const;
  /// "prompt + completion", as the file spells them.
  std::string joined(const std::vector<Column>& columns) const;
  /// "prompt", or "instruction + input".
  const std::string& in_file(Column column) const { return names_[static_cast<size_t>(column)]; }
  /// The file's columns that make it, one or more.
  const std::vector<std::string>& pieces(Column column) const { return pieces_[static_cast<size_t>(column)]; }

 private:
  std::array<std::string, kColumns> names_;
  std::array<std::vector<std::string>, kColumns> pieces_;
};

}  // namespace fpdist::data
