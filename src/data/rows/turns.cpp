#include "src/data/rows/turns.hpp"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "fpdist/core/error.hpp"

namespace fpdist::data {
namespace {

uint32_t characters(std::string_view text) {
  return static_cast<uint32_t>(std::count_if(
      text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

std::string_view without_end_space(std::string_view text) {
  const size_t last = text.find_last_not_of(" \n\r\t");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

}  // namespace

std::vector<TextRequest> turn_renderings(std::span<const ChatMessage> messages, const ChatExtras& extras) {
  std::vector<TextRequest> all{chat_request(messages, {}, extras)};
  for (size_t turn = 0; turn < messages.size(); ++turn) {
    if (messages[turn].role != "assistant") continue;
    all.push_back(turn == 0 ? TextRequest{} : chat_request(messages.first(turn), {}, extras));
    all.back().generation_prompt = turn > 0;
    all.push_back(chat_request(messages.first(turn + 1), {}, extras));
  }
  return all;
}

TextRequest marked_turns(std::span<const RenderedText> rendered) {
  for (const RenderedText& one : rendered)
    if (!one.error.empty()) throw TurnError(one.error);
  const std::string& whole = rendered[0].text;
  TextRequest marked{.text = whole, .bare = true};
  for (size_t turn = 0; 2 * turn + 2 < rendered.size(); ++turn) {
    const std::string &before = rendered[2 * turn + 1].text, &until = rendered[2 * turn + 2].text;
    if (!until.starts_with(before) || !whole.starts_with(until))
      throw TurnError(text("the chat template renders the conversation's assistant turn ", turn + 1,
                           " differently once more follows it, so its part of the text is not known: mark it in the "
                           "template with {% generation %}, or leave out data.assistant_only_loss"));
    const std::string_view end = without_end_space(until);
    if (end.size() > before.size()) marked.span.emplace_back(characters(before), characters(end));
  }
  if (marked.span.empty()) throw TurnError("the conversation has no turn of an assistant");
  return marked;
}

}  // namespace fpdist::data
