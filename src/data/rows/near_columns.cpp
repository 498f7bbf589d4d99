#include "src/data/rows/near_columns.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/edit_distance.hpp"

namespace fpdist::data {
namespace {

using enum Column;

constexpr std::string_view kInside = "completions.";

struct OtherName {
  std::string_view theirs;
  Column ours;
};
/// What samplers and other trainers call them.
constexpr std::array kOthers{OtherName{"logps", kOldLogps},
                             OtherName{"logprobs", kOldLogps},
                             OtherName{"log_probs", kOldLogps},
                             OtherName{"old_logprobs", kOldLogps},
                             OtherName{"old_log_probs", kOldLogps},
                             OtherName{"rollout_log_probs", kOldLogps},
                             OtherName{"sampling_logps", kOldLogps},
                             OtherName{"ref_logprobs", kRefLogps},
                             OtherName{"ref_log_prob", kRefLogps},
                             OtherName{"ref_log_probs", kRefLogps},
                             OtherName{"loss_mask", kMask},
                             OtherName{"response_mask", kMask},
                             OtherName{"completion_mask", kMask},
                             OtherName{"prefix_len", kPrefixLength},
                             OtherName{"weights", kWeight},
                             OtherName{"sample_weight", kWeight},
                             OtherName{"loss_weight", kWeight},
                             OtherName{"reference_chosen_logps", kRefChosenLogps},
                             OtherName{"reference_rejected_logps", kRefRejectedLogps}};

/// What an object in `completions` may have.
const std::vector<Column> kOfCompletion{kReward,    kAdvantage,    kOldLogps, kRefLogps,    kMask,
                                        kTruncated, kFinishReason, kWeight,   kPrefixLength};

/// Letters that may be wrong: words of other beginnings, and short ones, are too often other words.
size_t most_wrong(std::string_view name) { return name.size() < 4 ? 0 : name.size() < 6 ? 1 : 2; }

bool completion_has(const TokenCompletion& one, Column column) {
  switch (column) {
    case kReward:
    case kAdvantage:
      return one.reward.has_value() || one.advantage.has_value();
    case kOldLogps:
      return one.old_logps.has_value();
    case kRefLogps:
      return one.ref_logps.has_value();
    case kMask:
      return one.mask.has_value();
    case kTruncated:
    case kFinishReason:
      return one.truncated.has_value();
    case kPrefixLength:
      return one.prefix_length > 0;
    default:
      return false;
  }
}

bool has(const Row& row, Column column, bool is_inside) {
  if (!is_inside) return row.has(column);
  const auto& all = row.get<std::vector<TokenCompletion>>(kCompletions);
  return std::any_of(all.begin(), all.end(), [&](const TokenCompletion& one) { return completion_has(one, column); });
}

}  // namespace

std::optional<Column> NearColumns::meant(const std::string& name, const RowFormat& format) const {
  const bool is_inside = name.starts_with(kInside);
  const std::string_view leaf = std::string_view(name).substr(is_inside ? kInside.size() : 0);
  if (names_.find(leaf)) return std::nullopt;  // another method's, which is said otherwise
  for (const Column column : is_inside ? kOfCompletion : format.optional) {
    const std::string& ours = names_.in_file(column);
    const bool is_called_so = ours == name_of(column) &&
                              std::any_of(kOthers.begin(), kOthers.end(),
                                          [&](const auto& one) { return one.ours == column && one.theirs == leaf; });
    const bool is_near = leaf.substr(0, 1) == ours.substr(0, 1) && edit_distance(leaf, ours) <= most_wrong(ours);
    if (is_called_so || is_near) return column;
  }
  return std::nullopt;
}

void NearColumns::check(const Row& row, const RowFormat& format) {
  for (const std::string& name : row.unread) {
    const auto [found, is_new] = known_.try_emplace({&format, name});
    if (is_new) found->second = meant(name, format);
    const std::optional<Column> column = found->second;
    if (!column || has(row, *column, name.starts_with(kInside))) continue;
    const std::string& ours = names_.in_file(*column);
    const std::string leaf = name.substr(name.starts_with(kInside) ? kInside.size() : 0);
    fail_at(row.place, 0,
            text("column '", name, "' is not read; if '", ours, "' is meant: data.columns: {", name_of(*column), ": ",
                 leaf, "}, if not: data.columns: {", name_of(*column), ": none}"));
  }
}

}  // namespace fpdist::data
