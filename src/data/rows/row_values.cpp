#include "src/data/rows/row_values.hpp"

#include <algorithm>
#include <variant>

#include "fpdist/core/error.hpp"

namespace fpdist::data {
namespace {

using enum Column;

/// A number is the answer's sum, as TRL has it: an even share for each token that is predicted (all but a sample's
/// first). A list has a number a token.
std::vector<double> reference_logps(const Row& row, const GroupMaker& maker, Column column, const Sample& sample) {
  const auto prompt = static_cast<size_t>(sample.prompt_length), length = sample.token.size() - prompt;
  if (row.holds<double>(column)) {
    const double sum = row.get<double>(column);
    const size_t first = std::max<size_t>(prompt, 1),
                 predicted = sample.token.size() - std::min(first, sample.token.size());
    if (predicted == 0 && sum != 0)
      fail_at(row.place, row.offset(column),
              text(maker.names.in_file(column), " is ", sum,
                   " for an answer of which no token is predicted: it must be 0"));
    std::vector<double> values(sample.token.size(), 0.0);
    std::fill(values.end() - static_cast<std::ptrdiff_t>(predicted), values.end(),
              sum / static_cast<double>(predicted));
    return values;
  }
  const auto& each = row.get<std::vector<double>>(column);
  check_length(row, row.offset(column), each.size(), maker.names.in_file(column), length,
               "the answer (with the end of sequence)");
  return behind_prompt(prompt, each);
}

}  // namespace

std::vector<double> behind_prompt(size_t prompt, const std::vector<double>& values) {
  std::vector<double> all(prompt, 0.0);
  all.insert(all.end(), values.begin(), values.end());
  return all;
}

void check_length(const Row& row, size_t offset, size_t length, std::string_view what, size_t wanted,
                  std::string_view of) {
  if (length != wanted) fail_at(row.place, offset, text(what, " has ", length, " entries, ", of, " has ", wanted));
}

std::string uid_of(const Row& row, const GroupMaker& maker) {
  if (maker.options.group_by != GroupBy::kUid) return "";
  if (!row.has(kUid))
    fail_at(row.place, 0, text("data.group_by is uid, and the row has no '", maker.names.in_file(kUid), "'"));
  return row.get<std::string>(kUid);
}

std::vector<int32_t> cuts_of(const Row& row, const GroupMaker& maker, size_t completions) {
  if (!row.has(kTruncated) && !row.has(kFinishReason)) return std::vector<int32_t>(completions, 0);
  if (row.has(kTruncated) && row.has(kFinishReason))
    fail_at(row.place, row.offset(kFinishReason),
            text("the row says twice how completions ended: keep '", maker.names.in_file(kTruncated), "' or '",
                 maker.names.in_file(kFinishReason), "'"));
  const Column column = row.has(kTruncated) ? kTruncated : kFinishReason;
  const auto& said = row.get<std::vector<int32_t>>(column);
  check_length(row, row.offset(column), said.size(), maker.names.in_file(column), completions,
               "the row's list of completions");
  return said;
}

double verdict_of(const Row& row, const GroupMaker& maker) {
  const double verdict = row.get<double>(kLabel);
  if (verdict < 0)
    fail_at(row.place, row.offset(kLabel),
            text("'", maker.names.in_file(kLabel), "' says whether the answer is wanted: true or false, 1 or 0"));
  return verdict;
}

double weight_of(const Row& row, const GroupMaker& maker) {
  if (!row.has(kWeight)) return 1;
  if (!row.holds<double>(kWeight))
    fail_at(row.place, row.offset(kWeight),
            text("'", maker.names.in_file(kWeight),
                 "' is a list, which rows of token ids with one answer may have: "
                 "give this row one number"));
  return row.get<double>(kWeight);
}

void weigh(const std::vector<double>& weight, Sample& sample) {
  bool is_even = true;
  for (size_t t = 0; t < weight.size(); ++t) {
    if (weight[t] == 0) sample.target[t] = kIgnore;
    is_even = is_even && (sample.target[t] == kIgnore || weight[t] == 1);
  }
  if (is_even) return;
  if (sample.weight.empty()) sample.weight.assign(weight.size(), 1.0);
  for (size_t t = 0; t < weight.size(); ++t)
    sample.weight[t] = sample.target[t] == kIgnore ? 1 : sample.weight[t] * weight[t];
}

void weigh(double weight, Sample& sample) { weigh(std::vector<double>(sample.token.size(), weight), sample); }

void set_reference_logps(const Row& row, const GroupMaker& maker, int64_t cut_here, Group& group) {
  if (!row.has(kRefChosenLogps) && !row.has(kRefRejectedLogps)) return;
  if (!row.has(kRefChosenLogps) || !row.has(kRefRejectedLogps))
    fail_at(row.place, row.offset(row.has(kRefChosenLogps) ? kRefChosenLogps : kRefRejectedLogps),
            text("give '", maker.names.in_file(kRefChosenLogps), "' and '", maker.names.in_file(kRefRejectedLogps),
                 "', or neither"));
  if (cut_here > 0)
    fail_at(row.place, row.offset(kRefChosenLogps),
            text("the reference's log-probs are of whole answers, and data.max_length ", maker.options.max_length,
                 " cuts one of the row's: raise it, or leave the columns out"));
  group.sample[0].ref_logp = reference_logps(row, maker, kRefChosenLogps, group.sample[0]);
  group.sample[1].ref_logp = reference_logps(row, maker, kRefRejectedLogps, group.sample[1]);
}

}  // namespace fpdist::data
