#include "src/data/rows/messages.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/edit_distance.hpp"

namespace fpdist::data {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 64;
/// Roles that templates know; others are the template's to judge, unless they look like one of these.
constexpr std::array<std::string_view, 6> kRoles{"system", "developer", "user", "assistant", "tool", "function"};
/// What sharegpt calls them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kSharegptRoles{
    {{"human", "user"}, {"gpt", "assistant"}}};
constexpr size_t kMisspelt = 2;  // letters

Json parse(std::string_view json) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  using Event = Json::parse_event_t;
  const auto watch = [&](int depth, Event event, Json& value) {
    if (depth > kMaxDepth) throw MessageError(text("nested more than ", kMaxDepth, " deep"), 0);
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get_ref<const std::string&>()).second)
      throw MessageError(text("\"", value.get_ref<const std::string&>(), "\" is given twice"), 0);
    return true;
  };
  try {
    return Json::parse(json.begin(), json.end(), watch);
  } catch (const Json::parse_error& error) {
    throw MessageError("bad JSON inside a message", std::min(error.byte > 0 ? error.byte - 1 : 0, json.size()));
  } catch (const Json::exception& error) {
    throw MessageError(text("bad JSON inside a message: ", error.what()), 0);
  }
}

/// sharegpt's names, as TRL renames them.
bool rename(Json& message, const char* from, const char* to) {
  if (message.contains(to) || !message.contains(from)) return false;
  Json renamed = Json::object();
  for (auto& [key, value] : message.items()) renamed[key == from ? to : key] = std::move(value);
  message = std::move(renamed);
  return true;
}

void check_role(const std::string& role) {
  for (const std::string_view known : kRoles)
    if (role != known && std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end() &&
        edit_distance(role, known) <= kMisspelt)
      throw MessageError(text("role '", role, "' is unknown; did you mean '", known, "'?"), 0);
}

/// Under one of the names that OpenAI and axolotl give it.
std::optional<double> weight_in(const Json& message) {
  std::optional<double> weight;
  for (const char* name : {"weight", "train", "training"}) {
    const auto given = message.find(name);
    if (given == message.end() || given->is_null()) continue;
    if (weight) throw MessageError(text("'", name, "' is a message's second weight: keep one"), 0);
    if (given->is_boolean()) weight = given->get<bool>() ? 1.0 : 0.0;
    if (given->is_number()) weight = given->get<double>();
    if (!weight || *weight < 0)
      throw MessageError(
          text("'", name, "' of a message is ", given->dump(), ": a weight is 0 or more, or true or false"), 0);
  }
  return weight;
}

void append(std::span<const ChatMessage> messages, std::string& list) {
  for (const ChatMessage& message : messages) list.append(list.back() == '[' ? "" : ",").append(message.json);
}

}  // namespace

ChatMessage read_message(std::string_view json) {
  Json parsed = parse(json);
  if (!parsed.is_object()) throw MessageError("a message is no object: write {\"role\": ..., \"content\": ...}", 0);
  const bool renamed_role = rename(parsed, "from", "role"), renamed_content = rename(parsed, "value", "content");
  const auto role = parsed.find("role");
  if (role == parsed.end() || !role->is_string())
    throw MessageError("a message has no 'role': write {\"role\": \"user\", \"content\": ...}", 0);
  if (renamed_role)
    for (const auto& [theirs, ours] : kSharegptRoles)
      if (*role == theirs) *role = ours;
  ChatMessage message{.json = renamed_role || renamed_content ? parsed.dump() : std::string(json),
                      .role = role->get<std::string>(),
                      .weight = weight_in(parsed)};
  check_role(message.role);
  return message;
}

void check_json(std::string_view json) { (void)parse(json); }

bool same_message(const ChatMessage& a, const ChatMessage& b) {
  return a.json == b.json || nlohmann::json::parse(a.json) == nlohmann::json::parse(b.json);
}

TextRequest chat_request(std::span<const ChatMessage> first, std::span<const ChatMessage> second,
                         const ChatExtras& extras) {
  std::string list = "[";
  append(first, list), append(second, list);
  return {.kind = TextRequest::Kind::kChat,
          .text = text("{\"messages\": ", list, "], \"tools\": ", extras.tools.empty() ? "null" : extras.tools,
                       ", \"kwargs\": ", extras.kwargs.empty() ? "null" : extras.kwargs, "}")};
}

}  // namespace fpdist::data
