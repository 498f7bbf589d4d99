#include "src/data/rows/format.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"

namespace fpdist::data {
namespace {

using enum Column;

const MethodFormats kSftFormats{.tokens = {{kInputIds, kLabels}, {kTruncated, kFinishReason}},
                                .text = {{kPrompt, kCompletion}, {kTruncated, kFinishReason}},
                                .group = RowGroup::kSample};
const std::vector<Column> kOfDpo{kMargin, kTruncated, kFinishReason, kRefChosenLogps, kRefRejectedLogps};
const MethodFormats kDpoFormats{.tokens = {{kPromptIds, kChosenIds, kRejectedIds}, kOfDpo},
                                .text = {{kPrompt, kChosen, kRejected}, kOfDpo},
                                .group = RowGroup::kPair};
const std::vector<Column> kOfReward{kMargin, kTruncated, kFinishReason};
const MethodFormats kRewardFormats{.tokens = {kDpoFormats.tokens.required, kOfReward},
                                   .text = {kDpoFormats.text.required, kOfReward},
                                   .group = RowGroup::kPair,
                                   .scores_samples = true};
const MethodFormats kGrpoFormats{.tokens = {{kPromptIds, kCompletions}, {}},
                                 .text = {{kPrompt, kCompletions}, {kRewards, kAdvantages, kTruncated, kFinishReason}},
                                 .group = RowGroup::kRollouts};

bool contains(const std::vector<Column>& columns, Column column) {
  return std::find(columns.begin(), columns.end(), column) != columns.end();
}
bool contains(const RowFormat& format, Column column) {
  return contains(format.required, column) || contains(format.optional, column);
}

std::string join(const std::vector<Column>& columns, const ColumnNames& names) {
  std::string all;
  for (const Column column : columns) all += text(all.empty() ? "" : " + ", names.in_file(column));
  return all;
}

/// prompt + completion as one sample; every completion token is a target.
Sample join_ids(const std::vector<int32_t>& prompt, const std::vector<int32_t>& completion) {
  Sample sample;
  sample.token = prompt;
  sample.token.insert(sample.token.end(), completion.begin(), completion.end());
  sample.target = sample.token;
  sample.prompt_length = static_cast<int32_t>(prompt.size());
  std::fill_n(sample.target.begin(), prompt.size(), kIgnore);
  return sample;
}

/// Per-token values of a completion as values of the whole sample: 0 in the prompt.
std::vector<double> behind_prompt(size_t prompt, const std::vector<double>& values) {
  std::vector<double> all(prompt, 0.0);
  all.insert(all.end(), values.begin(), values.end());
  return all;
}

/// Builds one row's group.
class OneRow {
 public:
  OneRow(const GroupMaker& maker, const Row& row) : maker_(maker), formats_(formats_of(maker.method)), row_(row) {}

  MadeGroup make() {
    const RowFormat& format = recognise();
    const bool is_text = &format == &formats_.text;
    is_text ? make_text() : make_tokens();
    if (dropped_) return {};
    if (row_.has(kMargin)) group_.margin = row_.get<double>(kMargin);
    set_reference_logps();
    for (const Sample& sample : group_.sample) check_sample(sample, is_text);
    return {std::move(group_), truncated_};
  }

 private:
  const std::string& in_file(Column column) const { return maker_.names.in_file(column); }
  [[noreturn]] void fail(size_t offset, std::string_view reason) const { fail_at(row_.place, offset, reason); }
  void same_length(size_t offset, size_t length, std::string_view what, size_t wanted, std::string_view of) const {
    if (length != wanted) fail(offset, text(what, " has ", length, " entries, ", of, " has ", wanted));
  }

  const RowFormat& recognise() const;
  void make_tokens();
  void token_rollouts(const std::vector<int32_t>& prompt);
  void make_text();
  Sample token_rollout(const std::vector<int32_t>& prompt, const TokenCompletion& completion) const;
  void text_rollouts();
  void add_text(const std::string& completion, bool is_cut);
  std::vector<int32_t> cuts(size_t completions) const;
  void set_reference_logps();
  std::vector<double> reference_logps(Column column, const Sample& sample) const;
  void check_sample(const Sample& sample, bool is_text) const;

  const GroupMaker& maker_;
  const MethodFormats& formats_;
  const Row& row_;
  Group group_;
  std::vector<int32_t> prompt_;
  int64_t truncated_ = 0;
  bool dropped_ = false;
};

const RowFormat& OneRow::recognise() const {
  Column of_tokens{}, of_text{};
  bool has_tokens = false, has_text = false;
  for (const Column column : formats_.all()) {
    if (!row_.has(column)) continue;
    const bool in_tokens = contains(formats_.tokens, column), in_text = contains(formats_.text, column);
    if (in_tokens && !in_text) has_tokens = true, of_tokens = column;
    if (in_text && !in_tokens) has_text = true, of_text = column;
  }
  if (has_tokens && has_text)
    fail(row_.offset(of_tokens), text("'", in_file(of_tokens), "' is of pre-tokenised rows, '", in_file(of_text),
                                      "' of text rows: keep the columns of one kind"));
  const RowFormat& format = has_tokens ? formats_.tokens : formats_.text;
  for (const Column column : format.required) {
    if (row_.has(column)) continue;
    std::string have;
    for (const std::string& name : row_.names) have += text(have.empty() ? "" : ", ", name);
    fail(0, text("missing column '", in_file(column), "': a ", name_of(maker_.method), " row has ",
                 join(formats_.tokens.required, maker_.names), " (token ids) or ",
                 join(formats_.text.required, maker_.names), " (text); this one has ", have.empty() ? "none" : have));
  }
  return format;
}

void OneRow::make_tokens() {
  using Ids = std::vector<int32_t>;
  if (formats_.group == RowGroup::kSample) {
    Sample& sample = group_.sample.emplace_back();
    sample.token = row_.get<Ids>(kInputIds);
    sample.target = row_.get<Ids>(kLabels);
    same_length(row_.offset(kLabels), sample.target.size(), in_file(kLabels), sample.token.size(), in_file(kInputIds));
    sample.truncated = cuts(1).front() != 0;
    return;
  }
  const Ids& prompt = row_.get<Ids>(kPromptIds);
  if (formats_.group == RowGroup::kRollouts) return token_rollouts(prompt);
  const std::vector<int32_t> is_cut = cuts(2);
  for (const Column column : {kChosenIds, kRejectedIds}) {
    group_.sample.push_back(join_ids(prompt, row_.get<Ids>(column)));
    group_.sample.back().truncated = is_cut[group_.sample.size() - 1] != 0;
  }
}

void OneRow::token_rollouts(const std::vector<int32_t>& prompt) {
  const auto* completions =
      std::get_if<std::vector<TokenCompletion>>(&row_.cell[static_cast<size_t>(kCompletions)]->value);
  if (completions == nullptr)
    fail(row_.offset(kCompletions),
         "completions are texts, the prompt is token ids: give {ids, reward} objects or a text prompt");
  for (const TokenCompletion& completion : *completions) {
    const TokenCompletion& first = completions->front();
    if (completion.reward.has_value() == completion.advantage.has_value())
      fail(completion.offset,
           text("a completion needs '", in_file(kReward), "' or '", in_file(kAdvantage), "', one of the two"));
    if (completion.reward.has_value() != first.reward.has_value() ||
        completion.old_logps.has_value() != first.old_logps.has_value() ||
        completion.ref_logps.has_value() != first.ref_logps.has_value())
      fail(completion.offset, "this completion has other fields than the row's first: write all of a row alike");
    group_.sample.push_back(token_rollout(prompt, completion));
  }
}

Sample OneRow::token_rollout(const std::vector<int32_t>& prompt, const TokenCompletion& completion) const {
  Sample sample = join_ids(prompt, completion.ids);
  sample.reward = completion.reward;
  sample.advantage = completion.advantage;
  sample.truncated = completion.truncated.value_or(false);
  const size_t length = completion.ids.size();
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
  return sample;
}

void OneRow::make_text() {
  if (const std::string refusal = maker_.tokenizer.refusal(); !refusal.empty()) fail(row_.offset(kPrompt), refusal);
  prompt_ = maker_.tokenizer.encode(row_.get<std::string>(kPrompt));
  if (formats_.group == RowGroup::kRollouts) return text_rollouts();
  dropped_ = static_cast<int64_t>(prompt_.size()) >= maker_.max_length;
  if (dropped_) return;
  if (formats_.group == RowGroup::kSample) return add_text(row_.get<std::string>(kCompletion), cuts(1).front() != 0);
  const std::vector<int32_t> is_cut = cuts(2);
  add_text(row_.get<std::string>(kChosen), is_cut[0] != 0);
  add_text(row_.get<std::string>(kRejected), is_cut[1] != 0);
}

void OneRow::text_rollouts() {
  const auto* texts = std::get_if<std::vector<std::string>>(&row_.cell[static_cast<size_t>(kCompletions)]->value);
  if (texts == nullptr)
    fail(row_.offset(kCompletions),
         text("completions are objects, the prompt is text: give texts or '", in_file(kPromptIds), "'"));
  if (row_.has(kRewards) == row_.has(kAdvantages))
    fail(row_.offset(kCompletions),
         text("a row needs '", in_file(kRewards), "' or '", in_file(kAdvantages), "', one of the two"));
  const Column column = row_.has(kRewards) ? kRewards : kAdvantages;
  const std::vector<double>& values = row_.get<std::vector<double>>(column);
  same_length(row_.offset(column), values.size(), in_file(column), texts->size(), in_file(kCompletions));
  dropped_ = static_cast<int64_t>(prompt_.size()) >= maker_.max_length;
  const std::vector<int32_t> is_cut = cuts(texts->size());
  for (size_t i = 0; i < texts->size() && !dropped_; ++i) {
    add_text((*texts)[i], is_cut[i] != 0);
    (column == kRewards ? group_.sample.back().reward : group_.sample.back().advantage) = values[i];
  }
}

/// What was cut has no end of sequence, whoever cut it.
void OneRow::add_text(const std::string& completion, bool is_cut) {
  std::vector<int32_t> ids = maker_.tokenizer.encode(completion);
  const int32_t eos = maker_.tokenizer.eos_id();
  if (!is_cut && (ids.empty() || ids.back() != eos)) ids.push_back(eos);
  const size_t room = static_cast<size_t>(maker_.max_length) - prompt_.size();
  const bool is_cut_here = ids.size() > room;
  if (is_cut_here) {
    ids.resize(room);
    ++truncated_;
  }
  group_.sample.push_back(join_ids(prompt_, ids));
  group_.sample.back().truncated = is_cut || is_cut_here;
}

/// [completions] 1 where the row says that the sampler cut the completion.
std::vector<int32_t> OneRow::cuts(size_t completions) const {
  if (!row_.has(kTruncated) && !row_.has(kFinishReason)) return std::vector<int32_t>(completions, 0);
  if (row_.has(kTruncated) && row_.has(kFinishReason))
    fail(row_.offset(kFinishReason), text("the row says twice how completions ended: keep '", in_file(kTruncated),
                                          "' or '", in_file(kFinishReason), "'"));
  const Column column = row_.has(kTruncated) ? kTruncated : kFinishReason;
  const auto& said = row_.get<std::vector<int32_t>>(column);
  same_length(row_.offset(column), said.size(), in_file(column), completions, "the row's list of completions");
  return said;
}

void OneRow::set_reference_logps() {
  if (!row_.has(kRefChosenLogps) && !row_.has(kRefRejectedLogps)) return;
  if (!row_.has(kRefChosenLogps) || !row_.has(kRefRejectedLogps))
    fail(row_.offset(row_.has(kRefChosenLogps) ? kRefChosenLogps : kRefRejectedLogps),
         text("give '", in_file(kRefChosenLogps), "' and '", in_file(kRefRejectedLogps), "', or neither"));
  if (truncated_ > 0)
    fail(row_.offset(kRefChosenLogps),
         text("the reference's log-probs are of whole answers, and data.max_length ", maker_.max_length,
              " cuts one of the row's: raise it, or leave the columns out"));
  group_.sample[0].ref_logp = reference_logps(kRefChosenLogps, group_.sample[0]);
  group_.sample[1].ref_logp = reference_logps(kRefRejectedLogps, group_.sample[1]);
}

/// A number is the answer's sum, as TRL has it: an even share for each token that is predicted (all but a sample's
/// first). A list has a number a token.
std::vector<double> OneRow::reference_logps(Column column, const Sample& sample) const {
  const auto prompt = static_cast<size_t>(sample.prompt_length), length = sample.token.size() - prompt;
  if (const auto* sum = std::get_if<double>(&row_.cell[static_cast<size_t>(column)]->value)) {
    const size_t first = std::max<size_t>(prompt, 1),
                 predicted = sample.token.size() - std::min(first, sample.token.size());
    if (predicted == 0 && *sum != 0)
      fail(row_.offset(column),
           text(in_file(column), " is ", *sum, " for an answer of which no token is predicted: it ", "must be 0"));
    std::vector<double> values(sample.token.size(), 0.0);
    std::fill(values.end() - static_cast<std::ptrdiff_t>(predicted), values.end(),
              *sum / static_cast<double>(predicted));
    return values;
  }
  const auto& each = row_.get<std::vector<double>>(column);
  same_length(row_.offset(column), each.size(), in_file(column), length, "the answer (with the end of sequence)");
  return behind_prompt(prompt, each);
}

void OneRow::check_sample(const Sample& sample, bool is_text) const {
  if (!is_text && sample.length() > maker_.max_length)
    fail(0, text("a sample of ", sample.length(), " tokens is longer than data.max_length ", maker_.max_length,
                 " and pre-tokenised rows are never cut: raise it or shorten the row"));
  if (formats_.scores_samples && sample.token.empty())
    fail(0, "a sample without any token has nothing to be scored: give a prompt or a completion");
}

}  // namespace

std::vector<Column> MethodFormats::all() const {
  std::vector<Column> columns;
  for (const RowFormat* format : {&tokens, &text})
    for (const std::vector<Column>* list : {&format->required, &format->optional})
      for (const Column column : *list)
        if (!contains(columns, column)) columns.push_back(column);
  return columns;
}

const MethodFormats& formats_of(Method method) {
  switch (method) {
    case Method::kSft:
      return kSftFormats;
    case Method::kDpo:
      return kDpoFormats;
    case Method::kReward:
      return kRewardFormats;
    case Method::kGrpo:
      return kGrpoFormats;
  }
  throw std::logic_error("a method without rows");
}

MadeGroup GroupMaker::make(const Row& row) const { return OneRow(*this, row).make(); }

}  // namespace fpdist::data
