#include "src/data/rows/format.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/edit_distance.hpp"
#include "src/data/rows/row_values.hpp"
#include "src/data/rows/step_row.hpp"

namespace fpdist::data {
namespace {

using enum Column;

constexpr size_t kMisspelt = 2;  // letters

using ColumnList = std::vector<Column>;

ColumnList operator+(ColumnList a, const ColumnList& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const ColumnList kName{kUid, kWeight}, kEnds{kTruncated, kFinishReason},
    kExtras = kEnds + kName + ColumnList{kTools, kChatTemplateKwargs};
const ColumnList kOfReward{kMargin}, kOfDpo{kMargin, kRefChosenLogps, kRefRejectedLogps}, kVerdict{kLabel},
    kOtherPrompt{kRejectedPromptIds};

const MethodFormats kSftFormats{.tokens = {{{kInputIds, kLabels}, kEnds + kName + kVerdict}},
                                .text = {{{kPrompt, kCompletion}, kExtras + kVerdict},
                                         {{kText}, kEnds + kName + kVerdict},
                                         {{kMessages}, kExtras + kVerdict}},
                                .group = RowGroup::kSample};
const MethodFormats kDpoFormats{
    .tokens = {{{kPromptIds, kChosenIds, kRejectedIds}, kOfDpo + kOtherPrompt + kEnds + kName}},
    .text = {{{kChosen, kRejected}, ColumnList{kPrompt} + kOfDpo + kExtras}},
    .group = RowGroup::kPair};
const MethodFormats kRewardFormats{
    .tokens = {{{kPromptIds, kChosenIds, kRejectedIds}, kOfReward + kOtherPrompt + kEnds + kName}},
    .text = {{{kChosen, kRejected}, ColumnList{kPrompt} + kOfReward + kExtras}},
    .group = RowGroup::kPair,
    .scores_samples = true};
const MethodFormats kGrpoFormats{
    .tokens = {{{kPromptIds, kCompletions}, kName},
               {{kPromptIds, kCompletionIds},
                ColumnList{kReward, kAdvantage, kOldLogps, kRefLogps, kMask, kPrefixLength} + kEnds + kName,
                /*is_flat=*/true}},
    .text = {{{kPrompt, kCompletions}, ColumnList{kRewards, kAdvantages} + kExtras},
             {{kPrompt, kCompletion}, ColumnList{kReward, kAdvantage} + kExtras, /*is_flat=*/true},
             {{kMessages}, ColumnList{kReward, kAdvantage} + kExtras, /*is_flat=*/true}},
    .group = RowGroup::kRollouts};

const MethodFormats kKtoFormats{
    .tokens = {{{kPromptIds, kCompletionIds, kLabel}, kEnds + ColumnList{kUid}}},
    .text = {{{kPrompt, kCompletion, kLabel}, kEnds + ColumnList{kUid, kTools, kChatTemplateKwargs}}},
    .group = RowGroup::kRollouts,
    .has_verdicts = true};

const MethodFormats kPrmFormats{.tokens = {{{kInputIds, kLabels}, kName}},
                                .text = {{{kPrompt, kCompletions, kLabels}, kName}},
                                .group = RowGroup::kSample,
                                .judges_steps = true};

bool contains(const ColumnList& columns, Column column) {
  return std::find(columns.begin(), columns.end(), column) != columns.end();
}
bool contains(const RowFormat& format, Column column) {
  return contains(format.required, column) || contains(format.optional, column);
}
bool contains(const std::vector<RowFormat>& formats, Column column) {
  return std::any_of(formats.begin(), formats.end(), [&](const RowFormat& format) { return contains(format, column); });
}

/// prompt + completion as one sample; every completion token is a target.
Sample join_ids(const std::vector<int32_t>& prompt, const std::vector<int32_t>& completion) {
  std::vector<int32_t> token = prompt;
  token.insert(token.end(), completion.begin(), completion.end());
  return make_sample(std::move(token), prompt.size());
}

/// Builds the group of one row of token ids.
class TokenRow {
 public:
  TokenRow(const GroupMaker& maker, const Row& row) : maker_(maker), formats_(formats_of(maker.method)), row_(row) {}

  MadeGroup make() {
    add_samples();
    if (formats_.group != RowGroup::kRollouts && row_.has(kWeight) && row_.holds<double>(kWeight) &&
        row_.get<double>(kWeight) == 0)
      return {};
    set_weights();
    if (row_.has(kMargin)) group_.margin = row_.get<double>(kMargin);
    set_reference_logps(row_, maker_, 0, group_);
    for (const Sample& sample : group_.sample) check_sample(sample);
    if (formats_.judges_steps)
      for (Sample& sample : group_.sample) to_targets(sample);
    const bool has_empty_answer = std::any_of(group_.sample.begin(), group_.sample.end(), [&](const Sample& sample) {
      return formats_.group == RowGroup::kSample
                 ? std::all_of(sample.target.begin(), sample.target.end(), [](int32_t id) { return id == kIgnore; })
                 : sample.length() == sample.prompt_length;
    });
    return {.group = std::move(group_), .uid = uid_of(row_, maker_), .has_empty_answer = has_empty_answer};
  }

 private:
  const std::string& in_file(Column column) const { return maker_.names.in_file(column); }
  [[noreturn]] void fail(size_t offset, std::string_view reason) const { fail_at(row_.place, offset, reason); }
  void same_length(size_t offset, size_t length, std::string_view what, size_t wanted, std::string_view of) const {
    check_length(row_, offset, length, what, wanted, of);
  }

  void add_samples();
  void set_weights();
  TokenCompletion flat_completion() const;
  void add_rollouts(const std::vector<int32_t>& prompt);
  void check_value(const TokenCompletion& completion) const;
  Sample rollout(const std::vector<int32_t>& prompt, const TokenCompletion& completion) const;
  void check_sample(const Sample& sample) const;

  const GroupMaker& maker_;
  const MethodFormats& formats_;
  const Row& row_;
  Group group_;
};

void TokenRow::add_samples() {
  using Ids = std::vector<int32_t>;
  if (formats_.group == RowGroup::kSample) {
    Sample& sample = group_.sample.emplace_back();
    sample.token = row_.get<Ids>(kInputIds);
    sample.target = row_.get<Ids>(kLabels);
    same_length(row_.offset(kLabels), sample.target.size(), in_file(kLabels), sample.token.size(), in_file(kInputIds));
    if (formats_.judges_steps)
      check_classes(row_, maker_, /*may_ignore=*/true);
    else if (row_.has_verdicts)
      fail(row_.offset(kLabels),
           text("'", in_file(kLabels), "' are true and false, as of steps that are right or not, ",
                "and no token ids: method: prm"));
    else if (maker_.options.train_on_all)
      sample.target = sample.token;
    sample.truncated = cuts_of(row_, maker_, 1).front() != 0;
    return;
  }
  const Ids& prompt = row_.get<Ids>(kPromptIds);
  if (formats_.group == RowGroup::kRollouts) return add_rollouts(prompt);
  const std::vector<int32_t> is_cut = cuts_of(row_, maker_, 2);
  const Ids& rejected_prompt = row_.has(kRejectedPromptIds) ? row_.get<Ids>(kRejectedPromptIds) : prompt;
  for (const auto& [column, own_prompt] : {std::pair{kChosenIds, &prompt}, {kRejectedIds, &rejected_prompt}}) {
    group_.sample.push_back(join_ids(*own_prompt, row_.get<Ids>(column)));
    group_.sample.back().truncated = is_cut[group_.sample.size() - 1] != 0;
  }
}

/// The row's own; what completions say of theirs is in them already.
void TokenRow::set_weights() {
  if (!row_.has(kWeight)) return;
  if (formats_.group == RowGroup::kPair) {
    if (const double weight = weight_of(row_, maker_); weight != 1) group_.weight = weight;
    return;
  }
  if (group_.sample.size() == 1 && row_.holds<std::vector<double>>(kWeight)) {
    Sample& sample = group_.sample.front();
    const auto& given = row_.get<std::vector<double>>(kWeight);
    const auto prompt = static_cast<size_t>(sample.prompt_length);
    same_length(row_.offset(kWeight), given.size(), in_file(kWeight), sample.token.size() - prompt,
                in_file(row_.has(kInputIds) ? kInputIds : kCompletionIds));
    return weigh(behind_prompt(prompt, given), sample);
  }
  for (Sample& sample : group_.sample) weigh(weight_of(row_, maker_), sample);
}

/// A flat row's only completion.
TokenCompletion TokenRow::flat_completion() const {
  const auto given = [&]<typename T>(Column column, std::optional<T>& value) {
    if (row_.has(column)) value = row_.get<T>(column);
  };
  TokenCompletion one;
  one.offset = row_.offset(kCompletionIds);
  one.ids = row_.get<std::vector<int32_t>>(kCompletionIds);
  if (formats_.has_verdicts) one.reward = verdict_of(row_, maker_);
  given(kReward, one.reward), given(kAdvantage, one.advantage);
  given(kOldLogps, one.old_logps), given(kRefLogps, one.ref_logps), given(kMask, one.mask);
  one.truncated = cuts_of(row_, maker_, 1).front() != 0;
  if (row_.has(kPrefixLength)) one.prefix_length = static_cast<int32_t>(row_.get<double>(kPrefixLength));
  return one;
}

void TokenRow::add_rollouts(const std::vector<int32_t>& prompt) {
  if (row_.has(kCompletionIds)) {
    const TokenCompletion one = flat_completion();
    check_value(one);
    group_.sample.push_back(rollout(prompt, one));
    return;
  }
  const auto* completions =
      std::get_if<std::vector<TokenCompletion>>(&row_.cell[static_cast<size_t>(kCompletions)]->value);
  if (completions == nullptr)
    fail(row_.offset(kCompletions),
         "completions are texts, the prompt is token ids: give {ids, reward} objects, or text in 'prompt'");
  for (const TokenCompletion& completion : *completions) {
    const TokenCompletion& first = completions->front();
    check_value(completion);
    if (completion.reward.has_value() != first.reward.has_value() ||
        completion.old_logps.has_value() != first.old_logps.has_value() ||
        completion.ref_logps.has_value() != first.ref_logps.has_value())
      fail(completion.offset, "this completion has other fields than the row's first: write all of a row alike");
    group_.sample.push_back(rollout(prompt, completion));
  }
}

void TokenRow::check_value(const TokenCompletion& completion) const {
  if (completion.reward.has_value() == completion.advantage.has_value())
    fail(completion.offset,
         text("a completion needs '", in_file(kReward), "' or '", in_file(kAdvantage), "', one of the two"));
}

Sample TokenRow::rollout(const std::vector<int32_t>& prompt, const TokenCompletion& completion) const {
  Sample sample = join_ids(prompt, completion.ids);
  sample.reward = completion.reward;
  sample.advantage = completion.advantage;
  sample.truncated = completion.truncated.value_or(false);
  const size_t length = completion.ids.size();
  if (static_cast<size_t>(completion.prefix_length) > length)
    fail(completion.offset, text(in_file(kPrefixLength), " is ", completion.prefix_length, ", the completion has ",
                                 length, " tokens: it counts those of them that a demonstration gave"));
  sample.prefix_length = completion.prefix_length;
  if (completion.old_logps) {
    same_length(completion.offset, completion.old_logps->size(), in_file(kOldLogps), length, in_file(kIds));
    sample.old_logp = behind_prompt(prompt.size(), *completion.old_logps);
  }
  if (completion.ref_logps) {
    same_length(completion.offset, completion.ref_logps->size(), in_file(kRefLogps), length, in_file(kIds));
    sample.ref_logp = behind_prompt(prompt.size(), *completion.ref_logps);
  }
  if (completion.mask) {
    same_length(completion.offset, completion.mask->size(), in_file(kMask), length, in_file(kIds));
    for (size_t t = 0; t < length; ++t)
      if ((*completion.mask)[t] == 0) sample.target[prompt.size() + t] = kIgnore;
  }
  if (const double* all = std::get_if<double>(&completion.weight)) {
    weigh(*all, sample);
  } else {
    const auto& each = std::get<std::vector<double>>(completion.weight);
    same_length(completion.offset, each.size(), in_file(kWeight), length, in_file(kIds));
    weigh(behind_prompt(prompt.size(), each), sample);
  }
  return sample;
}

void TokenRow::check_sample(const Sample& sample) const {
  if (sample.length() > maker_.options.max_length)
    fail(0, text("a sample of ", sample.length(), " tokens is longer than data.max_length ", maker_.options.max_length,
                 " and pre-tokenised rows are never cut: raise it or shorten the row"));
  if (formats_.scores_samples && sample.token.empty())
    fail(0, "a sample without any token has nothing to be scored: give a prompt or a completion");
}

/// A column of the row that may be meant as `wanted`, and how to say so.
std::string near_name(const Row& row, const std::string& wanted) {
  for (const std::string& name : row.unread)
    if (edit_distance(name, wanted) <= kMisspelt && wanted.size() > kMisspelt + 1)
      return text("; if '", name, "' is meant: data.columns: {", wanted, ": ", name, "}");
  return "";
}

/// The format of which the row has most required columns: of text where none.
const RowFormat& nearest_format(const Row& row, const MethodFormats& formats) {
  const RowFormat* nearest = &formats.text.front();
  std::ptrdiff_t most = 0;
  for (const std::vector<RowFormat>* list : {&formats.text, &formats.tokens})
    for (const RowFormat& format : *list) {
      const auto there =
          std::count_if(format.required.begin(), format.required.end(), [&](Column column) { return row.has(column); });
      if (there > most) nearest = &format, most = there;
    }
  return *nearest;
}

/// What to do with a row that is made for another method of preferences; "" where it is not known.
std::string other_method(const Row& row, const MethodFormats& formats) {
  const auto has_name = [&](std::string_view name) {
    return std::find(row.names.begin(), row.names.end(), name) != row.names.end();
  };
  const bool has_verdict = has_name("label") || has_name("kto_tag");
  if (formats.group == RowGroup::kPair && has_verdict && (has_name("completion") || has_name("completion_ids")))
    return "compares two answers of a prompt: a row that says whether its one answer is wanted is for method: kto";
  if (formats.has_verdicts && (has_name("chosen") || has_name("chosen_ids")))
    return "reads one answer a row and whether it is wanted: pairs are for method: dpo";
  return "";
}

/// "prompt + completion, text or messages"
std::string kinds(const std::vector<RowFormat>& formats, const ColumnNames& names) {
  std::string all;
  for (size_t i = 0; i < formats.size(); ++i)
    all += text(i == 0 ? "" : i + 1 == formats.size() ? " or " : ", ", names.joined(formats[i].required));
  return all;
}

}  // namespace

Sample make_sample(std::vector<int32_t> token, size_t prompt_length) {
  Sample sample;
  sample.target = token;
  sample.token = std::move(token);
  sample.prompt_length = static_cast<int32_t>(prompt_length);
  std::fill_n(sample.target.begin(), prompt_length, kIgnore);
  return sample;
}

std::vector<Column> MethodFormats::all() const {
  std::vector<Column> columns;
  const auto add = [&](const RowFormat& format) {
    for (const std::vector<Column>* list : {&format.required, &format.optional})
      for (const Column column : *list)
        if (!contains(columns, column)) columns.push_back(column);
  };
  for (const RowFormat& format : tokens) add(format);
  for (const RowFormat& format : text) add(format);
  return columns;
}

const MethodFormats& formats_of(Method method) {
  switch (method) {
    case Method::kSft:
      return kSftFormats;
    case Method::kDpo:
    case Method::kCpo:
    case Method::kOrpo:
      return kDpoFormats;
    case Method::kKto:
      return kKtoFormats;
    case Method::kPrm:
      return kPrmFormats;
    case Method::kReward:
      return kRewardFormats;
    case Method::kGrpo:
      return kGrpoFormats;
  }
  throw std::logic_error("a method without rows");
}

bool GroupMaker::is_text(const RowFormat& format) const {
  const std::vector<RowFormat>& all = formats_of(method).text;
  return std::any_of(all.begin(), all.end(), [&](const RowFormat& one) { return &one == &format; });
}

const RowFormat& GroupMaker::recognise(const Row& row) const {
  const MethodFormats& formats = formats_of(method);
  const RowFormat& format = nearest_format(row, formats);
  check_foreign(row, format);
  for (const Column column : format.required) {
    if (row.has(column)) continue;
    std::string have;
    for (const std::string& name : row.names) have += text(have.empty() ? "" : ", ", name);
    if (const std::string other = other_method(row, formats); !other.empty())
      fail_at(row.place, 0,
              text("missing column '", names.in_file(column), "': this row has ", have, ", and method ",
                   name_of(method), " ", other));
    fail_at(row.place, 0,
            text("missing column '", names.in_file(column), "': a ", name_of(method), " row has ",
                 kinds(formats.tokens, names), " (token ids) or ", kinds(formats.text, names), " (text); this one has ",
                 have.empty() ? "none" : have, near_name(row, names.in_file(column))));
  }
  if (!formats.has_verdicts && row.has(kLabel) && row.get<double>(kLabel) >= 0 && !contains(format.required, kText))
    fail_at(
        row.place, row.offset(kLabel),
        text("the row says in '", names.in_file(kLabel),
             "' whether its answer is wanted, as rows for KTO do, and method "
             "sft would learn unwanted answers like wanted ones: set method: kto, or keep the rows that are wanted and "
             "leave the column out; "
             "if it means something else: data.columns: {label: none}"));
  if (format.is_flat && options.group_by == GroupBy::kRow)
    fail_at(row.place, row.offset(format.required.back()),
            text("the row has one completion of its prompt, and its reward is to be held against others: set "
                 "data.group_by: prompt (or uid, with a column '",
                 names.in_file(kUid), "')"));
  return format;
}

/// A column that the method reads in other kinds of rows alone is meant to do something here as well.
void GroupMaker::check_foreign(const Row& row, const RowFormat& format) const {
  const MethodFormats& formats = formats_of(method);
  const auto own =
      std::find_if(format.required.begin(), format.required.end(), [&](Column one) { return row.has(one); });
  if (own == format.required.end()) return;
  for (const Column column : formats.all()) {
    if (!row.has(column) || contains(format, column)) continue;
    const bool in_text = contains(formats.text, column), in_tokens = contains(formats.tokens, column);
    const std::string &theirs = names.in_file(column), &ours = names.in_file(*own);
    const bool other_side = in_text != in_tokens && in_tokens == is_text(format);
    const std::string what = other_side ? text("'", theirs, "' is of ", in_tokens ? "pre-tokenised" : "text",
                                               " rows, '", ours, "' of ", in_tokens ? "text" : "pre-tokenised", " rows")
                                        : text("'", theirs, "' and '", ours, "' are of different kinds of rows");
    fail_at(row.place, row.offset(column), what + ": keep the columns of one kind");
  }
}

MadeGroup GroupMaker::make_tokens(const Row& row) const { return TokenRow(*this, row).make(); }

}  // namespace fpdist::data
