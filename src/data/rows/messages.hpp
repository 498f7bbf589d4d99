#pragma once
// data: conversations of a row. A message stays the JSON that the file has, so that a template sees every field, number
// and order as it was written; we look at roles alone.

#include <cstddef>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {

struct ChatMessage {
  std::string json;  ///< one object
  std::string role;
  std::optional<double> weight = {};  ///< what its tokens' loss is multiplied by, where it says so
};
using ChatMessages = std::vector<ChatMessage>;

/// What is wrong with a message, and at which byte of it.
class MessageError : public std::runtime_error {
 public:
  MessageError(const std::string& what, size_t at_byte) : std::runtime_error(what), at(at_byte) {}
  size_t at;
};

/// `json` is one message: {role, content, ...}, or sharegpt's {from, value}, which is renamed,
/// and its roles human and gpt with it. `weight` (a number), `train` or `training` (true or false) is its weight.
/// Throws MessageError for bad JSON, a key given twice, deep nesting, no role, a role that is a misspelt one, a weight
/// that is none.
ChatMessage read_message(std::string_view json);
/// `json` is an object or a list, and nested no deeper than messages are. Throws MessageError.
void check_json(std::string_view json);

/// Equal as values: spelling, spaces and the order of keys do not matter.
bool same_message(const ChatMessage& a, const ChatMessage& b);

/// What goes to the chat template besides messages; JSON, empty: not given.
struct ChatExtras {
  std::string tools, kwargs;
};

/// The request for messages `first` and behind them `second`.
TextRequest chat_request(std::span<const ChatMessage> first, std::span<const ChatMessage> second,
                         const ChatExtras& extras);

}  // namespace fpdist::data
