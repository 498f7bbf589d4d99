#pragma once
// data: which part of a conversation an assistant wrote, for chat templates that do not mark it. The conversation is
// rendered turn by turn, and what an assistant's turn adds is its part, provided that each rendering begins the next.

#include <span>
#include <stdexcept>
#include <vector>

#include "fpdist/data/tokenizer.hpp"
#include "src/data/rows/messages.hpp"

namespace fpdist::data {

class TurnError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The whole conversation; then, for each assistant's turn, what comes before it, with what opens it, and all up to it.
std::vector<TextRequest> turn_renderings(std::span<const ChatMessage> messages, const ChatExtras& extras);

/// The conversation's text with the assistant's parts as spans, from the answers to turn_renderings. A part ends before
/// the white space behind it. Throws TurnError, which names the turn, where one rendering does not begin the next.
TextRequest marked_turns(std::span<const RenderedText> rendered);

}  // namespace fpdist::data
