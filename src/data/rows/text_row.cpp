#include "src/data/rows/text_row.hpp"

#include <algorithm>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/data/rows/row_values.hpp"
#include "src/data/rows/turns.hpp"

namespace fpdist::data {
namespace {

using enum Column;

size_t common_prefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return index(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

/// Bytes that begin both texts, whole characters. TRL takes a last one from what two texts share to their ends.
size_t shared_text(const std::string& a, const std::string& b) {
  const auto begins = [&](size_t at) { return (static_cast<unsigned char>(a[at]) & 0xC0) != 0x80; };
  const size_t shorter = std::min(a.size(), b.size());
  auto shared =
      index(std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(shorter), b.begin()).first - a.begin());
  const bool differ = shared < shorter;
  if (!differ && shared > 0) --shared;
  while (shared > 0 && !begins(shared)) --shared;
  if (differ && shared > 0 && a[shared - 1] == ' ') --shared;  // a space goes with the word behind it
  return shared;
}

size_t shared_messages(const ChatMessages& a, const ChatMessages& b) {
  const size_t shorter = std::min(a.size(), b.size());
  for (size_t i = 0; i < shorter; ++i)
    if (!same_message(a[i], b[i])) return i;
  return shorter - 1;
}

/// Keeps max_length tokens of one end.
void cut(Sample& sample, int64_t max_length, Truncation truncation) {
  const auto excess = sample.length() - max_length;
  if (truncation == Truncation::kKeepStart) {
    sample.token.resize(index(max_length)), sample.target.resize(index(max_length));
    if (!sample.weight.empty()) sample.weight.resize(index(max_length));
  } else {
    sample.token.erase(sample.token.begin(), sample.token.begin() + excess);
    sample.target.erase(sample.target.begin(), sample.target.begin() + excess);
    if (!sample.weight.empty()) sample.weight.erase(sample.weight.begin(), sample.weight.begin() + excess);
    sample.prompt_length = static_cast<int32_t>(std::max<int64_t>(0, sample.prompt_length - excess));
  }
  sample.prompt_length = std::min(sample.prompt_length, static_cast<int32_t>(max_length));
}

bool has_target(const Sample& sample) {
  return std::any_of(sample.target.begin(), sample.target.end(), [](int32_t id) { return id != kIgnore; });
}

}  // namespace

TextRow::TextRow(const Row& row, const RowFormat& format, const GroupMaker& maker)
    : row_(row), maker_(maker), formats_(formats_of(maker.method)), at_(format.required.front()) {
  if (row.has(kTools)) extras_.tools = row.get<RawJson>(kTools).json;
  if (row.has(kChatTemplateKwargs)) extras_.kwargs = row.get<RawJson>(kChatTemplateKwargs).json;
  const auto reads = [&](Column column) {
    return row.has(column) && (std::count(format.required.begin(), format.required.end(), column) > 0 ||
                               std::count(format.optional.begin(), format.optional.end(), column) > 0);
  };
  has_prompt_ = reads(kPrompt);
  if (has_prompt_) prompt_ = read(kPrompt);
  for (const Column column : {kCompletion, kChosen, kRejected, kText, kMessages})
    if (reads(column)) answer_.push_back(read(column));
  if (reads(kCompletions)) read_completions();
  if (formats_.group == RowGroup::kPair && !has_prompt_ && !formats_.scores_samples) split_prompt();
  is_cut_ = cuts_of(row_, maker_, answer_.size());
  // A rollout of several turns: what it says is the assistant's, what it hears is not.
  const DataOptions& options = maker.options;
  marks_turns_ =
      formats_.group == RowGroup::kSample ? options.assistant_only_loss && !options.train_on_all : reads(kMessages);
  if (is_chat_) read_turn_weights();
  if (marks_turns_ && !is_chat_)
    fail("data.assistant_only_loss is true and the row is no conversation: give messages, or leave the key out");
}

/// Turns that say what their tokens' loss is multiplied by: the assistant's are learned by that, others not at all.
void TextRow::read_turn_weights() {
  bool is_said = false;
  std::vector<double> weights;
  std::vector<const ChatMessages*> chats{&prompt_.chat};
  for (const TextOrChat& answer : answer_) chats.push_back(&answer.chat);
  for (const ChatMessages* chat : chats)
    for (const ChatMessage& message : *chat) {
      is_said = is_said || message.weight.has_value();
      if (message.role == "assistant")
        weights.push_back(message.weight.value_or(1));
      else if (message.weight.value_or(0) != 0)
        fail(text("a message of the role '", message.role, "' has the weight ", *message.weight,
                  ": only what an assistant says can be learned by its weight"));
    }
  if (!is_said) return;
  if (answer_.size() == 1) {
    turn_weight_ = std::move(weights);
  } else if (std::any_of(weights.begin(), weights.end(), [](double weight) { return weight != 1; })) {
    fail(text("a message has a weight, and method ", name_of(maker_.method),
              " compares whole answers: leave weights of turns out, or give the row one in '",
              maker_.names.in_file(kWeight), "'"));
  }
}

TextOrChat TextRow::read(Column column) {
  const bool is_chat = row_.holds<ChatMessages>(column);
  const bool is_first = answer_.empty() && (column == kPrompt || !has_prompt_);
  if (!is_first && is_chat != is_chat_)
    fail_at(row_.place, row_.offset(column),
            text("'", maker_.names.in_file(column), "' is ", is_chat ? "a conversation" : "text", ", the row's '",
                 maker_.names.in_file(has_prompt_ ? kPrompt : at_), "' is ", is_chat_ ? "a conversation" : "text",
                 ": write both alike"));
  is_chat_ = is_chat;
  return is_chat ? TextOrChat{.text = {}, .chat = row_.get<ChatMessages>(column)}
                 : TextOrChat{.text = row_.get<std::string>(column), .chat = {}};
}

void TextRow::read_completions() {
  at_ = kCompletions;
  if (row_.holds<std::vector<TokenCompletion>>(kCompletions))
    fail(text("completions are objects, the prompt is text: give texts or '", maker_.names.in_file(kPromptIds), "'"));
  if (row_.holds<std::vector<ChatMessages>>(kCompletions) != is_chat_)
    fail(text("completions are ", is_chat_ ? "texts" : "conversations", ", the prompt is ",
              is_chat_ ? "a conversation" : "text", ": write both alike"));
  if (is_chat_) {
    for (const ChatMessages& chat : row_.get<std::vector<ChatMessages>>(kCompletions)) answer_.push_back({{}, chat});
  } else {
    for (const std::string& one : row_.get<std::vector<std::string>>(kCompletions)) answer_.push_back({one, {}});
  }
}

/// The prompt is what chosen and rejected begin with.
void TextRow::split_prompt() {
  TextOrChat &chosen = answer_[0], &rejected = answer_[1];
  has_prompt_ = true;
  if (is_chat_) {
    const size_t shared = shared_messages(chosen.chat, rejected.chat);
    if (shared == 0) fail("chosen and rejected share no first message, and there is no prompt: give one in 'prompt'");
    const auto end = static_cast<std::ptrdiff_t>(shared);
    prompt_.chat.assign(chosen.chat.begin(), chosen.chat.begin() + end);
    chosen.chat.erase(chosen.chat.begin(), chosen.chat.begin() + end);
    rejected.chat.erase(rejected.chat.begin(), rejected.chat.begin() + end);
    return;
  }
  const size_t shared = shared_text(chosen.text, rejected.text);
  prompt_.text = chosen.text.substr(0, shared);
  chosen.text.erase(0, shared), rejected.text.erase(0, shared);
}

/// What was cut has no end of sequence, whoever cut it.
TextRequest TextRow::whole(const TextOrChat& answer, bool is_cut) const {
  if (!is_chat_) return {.text = prompt_.text + answer.text, .end = !is_cut};
  return chat_request(prompt_.chat, answer.chat, extras_);
}

std::vector<TextRequest> TextRow::renderings() const {
  if (!needs_marks() || maker_.marks_generation) return {};
  ChatMessages all = prompt_.chat;
  all.insert(all.end(), answer_[0].chat.begin(), answer_[0].chat.end());
  return turn_renderings(all, extras_);
}

std::vector<TextRequest> TextRow::requests(std::span<const RenderedText> rendered) const {
  std::vector<TextRequest> all;
  if (has_prompt_ && is_chat_) {
    all.push_back(chat_request(prompt_.chat, {}, extras_));
    all.back().generation_prompt = true;
  } else if (has_prompt_) {
    all.push_back({.text = prompt_.text});
  }
  for (size_t i = 0; i < answer_.size(); ++i) all.push_back(whole(answer_[i], is_cut_[i] != 0));
  if (!rendered.empty()) {
    try {
      all.back() = marked_turns(rendered);
    } catch (const TurnError& error) {
      fail(error.what());
    }
  } else {
    all.back().mask = needs_marks();
  }
  return all;
}

MadeGroup TextRow::make(std::span<const EncodedText> encoded) const {
  for (const EncodedText& one : encoded)
    if (!one.error.empty()) fail(one.error);
  const std::span<const EncodedText> answers = encoded.subspan(has_prompt_ ? 1 : 0);
  const size_t whole_prompt = has_prompt_ ? encoded[0].id.size() : 0;
  size_t prompt_length = whole_prompt;
  for (const EncodedText& one : answers)
    if (has_prompt_) prompt_length = std::min(prompt_length, common_prefix(encoded[0].id, one.id));
  std::vector<Sample> samples;
  for (size_t i = 0; i < answers.size(); ++i) {
    samples.push_back(sample(answers[i], prompt_length));
    samples[i].truncated = is_cut_[i] != 0;
  }
  const double weight = weight_of(row_, maker_);
  const bool is_left_out = weight == 0 && formats_.group != RowGroup::kRollouts;
  if (is_left_out || is_dropped(samples, prompt_length)) return {};
  if (formats_.group != RowGroup::kPair)
    for (Sample& one : samples) weigh(weight, one);

  MadeGroup made{.group = Group{}, .uid = uid_of(row_, maker_), .prompt_differs = prompt_length < whole_prompt};
  for (Sample& one : samples) {
    if (one.length() <= maker_.options.max_length) continue;
    cut(one, maker_.options.max_length, maker_.options.truncation_mode);
    one.truncated = true;
    ++made.truncated_samples;
  }
  if (formats_.group == RowGroup::kSample && !has_target(samples[0])) return {};
  made.group->sample = std::move(samples);
  made.has_empty_answer = row_.has(kPrompt) && !is_chat_ &&
                          std::any_of(answer_.begin(), answer_.end(), [](const auto& one) { return one.text.empty(); });
  set_values(*made.group);
  set_reference_logps(row_, maker_, made.truncated_samples, *made.group);
  return made;
}

Sample TextRow::sample(const EncodedText& encoded, size_t prompt_length) const {
  Sample made = make_sample(encoded.id, prompt_length);
  const DataOptions& options = maker_.options;
  const bool learns_all = formats_.group == RowGroup::kSample && options.train_on_all;
  if (learns_all || (formats_.group == RowGroup::kSample && !options.completion_only_loss)) made.target = made.token;
  for (size_t t = 0; t < encoded.is_marked.size() && !learns_all; ++t)
    if (encoded.is_marked[t] == 0) made.target[t] = kIgnore;
  if (options.assistant_only_loss && !learns_all && !has_target(made))
    fail(
        "data.assistant_only_loss is true and no token of the conversation is an assistant's: give it an assistant's "
        "turn");
  if (!turn_weight_.empty()) weigh(token_weights(encoded), made);
  return made;
}

/// [tokens] of its turn each, 1 outside of the assistant's: between two of its turns there is a token that is none's.
std::vector<double> TextRow::token_weights(const EncodedText& encoded) const {
  std::vector<double> weights(encoded.id.size(), 1.0);
  size_t turns = 0;
  for (size_t t = 0; t < encoded.is_marked.size(); ++t) {
    if (encoded.is_marked[t] == 0) continue;
    if (t == 0 || encoded.is_marked[t - 1] == 0) ++turns;
    if (turns <= turn_weight_.size()) weights[t] = turn_weight_[turns - 1];
  }
  if (turns != turn_weight_.size())
    fail(text("messages have weights, and of the conversation's ", turn_weight_.size(),
              " assistant's turns the rendering "
              "shows ",
              turns, ": its template does not keep them apart, so leave the weights out or use another"));
  return weights;
}

bool TextRow::is_dropped(const std::vector<Sample>& samples, size_t prompt_length) const {
  const int64_t most = maker_.options.max_length;
  if (formats_.scores_samples)
    return std::any_of(samples.begin(), samples.end(), [&](const Sample& one) { return one.length() > most; });
  return formats_.group != RowGroup::kSample && maker_.options.truncation_mode == Truncation::kKeepStart &&
         static_cast<int64_t>(prompt_length) >= most;
}

/// Of a row with one completion.
void TextRow::set_flat_value(Sample& sample) const {
  if (formats_.has_verdicts) {
    sample.reward = verdict_of(row_, maker_);
    return;
  }
  if (row_.has(kReward) == row_.has(kAdvantage))
    fail(text("a row needs '", maker_.names.in_file(kReward), "' or '", maker_.names.in_file(kAdvantage),
              "', one of the two"));
  if (row_.has(kReward)) sample.reward = row_.get<double>(kReward);
  if (row_.has(kAdvantage)) sample.advantage = row_.get<double>(kAdvantage);
}

/// Margins, rewards and advantages.
void TextRow::set_values(Group& group) const {
  if (row_.has(kMargin)) group.margin = row_.get<double>(kMargin);
  if (const double weight = weight_of(row_, maker_); formats_.group == RowGroup::kPair && weight != 1)
    group.weight = weight;
  if (formats_.scores_samples)
    for (const Sample& one : group.sample)
      if (one.token.empty()) fail("a sample without any token has nothing to be scored: give a prompt or a completion");
  if (formats_.group != RowGroup::kRollouts) return;
  if (!row_.has(kCompletions)) return set_flat_value(group.sample.front());
  if (row_.has(kRewards) == row_.has(kAdvantages))
    fail(text("a row needs '", maker_.names.in_file(kRewards), "' or '", maker_.names.in_file(kAdvantages),
              "', one of the two"));
  const Column column = row_.has(kRewards) ? kRewards : kAdvantages;
  const std::vector<double>& values = row_.get<std::vector<double>>(column);
  check_length(row_, row_.offset(column), values.size(), maker_.names.in_file(column), group.sample.size(),
               maker_.names.in_file(kCompletions));
  for (size_t i = 0; i < values.size(); ++i)
    (column == kRewards ? group.sample[i].reward : group.sample[i].advantage) = values[i];
}

}  // namespace fpdist::data
