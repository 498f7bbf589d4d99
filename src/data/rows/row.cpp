// simdjson's on-demand front end: values are visited once, in the order of the file, straight from the text. Nothing is
// valid JSON until it was visited, so columns nobody wants are walked through as well.

#include "src/data/rows/row.hpp"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/data/sample.hpp"

namespace fpdist::data {
namespace {

namespace json = simdjson::ondemand;

/// What samplers call the end of a completion, and which of these ends are cuts.
constexpr std::array<std::pair<std::string_view, bool>, 11> kFinishReasons{{{"stop", false},
                                                                            {"length", true},
                                                                            {"abort", true},
                                                                            {"eos", false},
                                                                            {"eos_token", false},
                                                                            {"stop_sequence", false},
                                                                            {"end_turn", false},
                                                                            {"max_tokens", true},
                                                                            {"content_filter", true},
                                                                            {"tool_calls", false},
                                                                            {"function_call", false}}};
/// Nesting of values that nobody wants; deeper ones are refused instead of recursed into.
constexpr int kMaxDepth = 64;

/// Length of the valid UTF-8 at the start of `line`, character by character: only errors come here.
size_t valid_utf8_prefix(std::string_view line) {
  size_t good = 0;
  while (good < line.size()) {
    const auto lead = static_cast<unsigned char>(line[good]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (good + length > line.size() || !simdjson::validate_utf8(line.data() + good, length)) break;
    good += length;
  }
  return good;
}

}  // namespace

void fail_at(const LinePlace& place, size_t offset, std::string_view reason) {
  throw DataError(text(place.file, ":", place.line, ":", place.first_byte + offset, ": ", reason));
}

/// One line on its way through simdjson.
struct RowParser::Impl {
  explicit Impl(const ColumnNames& column_names) : names(column_names) {}

  const ColumnNames& names;
  json::parser parser;
  json::document document;
  LinePlace place;
  std::string_view line;
  size_t value_offset = 0;                      ///< of the value being read: where an error is when simdjson cannot say
  std::vector<std::string> names_read, unread;  ///< of the line so far, see Row

  [[noreturn]] void fail(std::string_view reason) const { fail_at(place, value_offset, reason); }

  /// The value of a simdjson result, or the error with its place.
  template <typename T>
  T take(simdjson::simdjson_result<T> result, std::string_view what) {
    T value{};
    if (const simdjson::error_code error = std::move(result).get(value)) fail_json(error, what);
    return value;
  }
  [[noreturn]] void fail_json(simdjson::error_code error, std::string_view what);

  void start_value(json::value value) {
    value_offset = static_cast<size_t>(value.raw_json_token().data() - line.data());
  }

  void skip(json::value value, int depth);
  double number(json::value value, std::string_view what);
  int32_t integer(json::value value, std::string_view what);
  int32_t token_id(json::value value, Column column);
  std::string string(json::value value, std::string_view what) {
    start_value(value);
    return std::string(take(value.get_string(), what));
  }
  template <typename T, typename Read>
  std::vector<T> list(json::value value, std::string_view what, Read read) {
    start_value(value);
    std::vector<T> all;
    json::array array = take(value.get_array(), what);
    for (auto element : array) all.push_back(read(take(std::move(element), what)));
    return all;
  }
  std::vector<int32_t> ids(json::value value, Column column) {
    return list<int32_t>(value, text("a list of token ids in '", names.in_file(column), "'"),
                         [&](json::value v) { return token_id(v, column); });
  }
  std::vector<double> numbers(json::value value, std::string_view what) {
    return list<double>(value, "a list of numbers", [&](json::value v) { return number(v, what); });
  }
  bool is_cut(json::value value, Column column);
  /// One or a list of them.
  std::vector<int32_t> cuts(json::value value, Column column);
  std::string raw(json::value value, std::string_view what);
  ChatMessages messages(json::value value, std::string_view what);
  TokenCompletion token_completion(json::value value);
  void completions(json::value value, Cell& cell);
  void extras(Column column, json::value value, Cell& cell);
  void read_cell(Column column, json::value value, Cell& cell);
  /// Calls `read(column, value)` for each wanted field once, walks through the others and notes them as `where` + name.
  template <typename Read>
  void each_field(json::object object, const std::vector<Column>& wanted, std::string_view where, Read read);
};

void RowParser::Impl::fail_json(simdjson::error_code error, std::string_view what) {
  if (error == simdjson::UTF8_ERROR) fail_at(place, valid_utf8_prefix(line), "invalid UTF-8: save the file as UTF-8");
  if (error == simdjson::INCORRECT_TYPE) fail(text("wrong type: expected ", what));
  if (error == simdjson::NUMBER_OUT_OF_RANGE) fail(text("number out of range: expected ", what));
  if (error == simdjson::UNESCAPED_CHARS) {
    const auto control = std::find_if(line.begin(), line.end(),
                                      [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\t'; });
    fail_at(place, control == line.end() ? value_offset : static_cast<size_t>(control - line.begin()),
            "bad JSON: a control character inside a string, write it as an escape");
  }
  if (error == simdjson::UNCLOSED_STRING)
    fail_at(place, line.size(), "bad JSON: a string never ends (is the line cut?)");
  if (error == simdjson::INCOMPLETE_ARRAY_OR_OBJECT)
    fail_at(place, line.size(), "bad JSON: a bracket never closes (is the line cut?)");
  if (error == simdjson::MEMALLOC)
    throw OutOfMemoryError(text(place.file, ":", place.line, ": no memory to parse the line"));
  const char* at = nullptr;  // the iterator has stopped where the structure broke; other errors are at the value
  if (error == simdjson::TAPE_ERROR && document.current_location().get(at) == simdjson::SUCCESS && at >= line.data() &&
      at < line.data() + line.size())
    value_offset = static_cast<size_t>(at - line.data());
  fail(text("bad JSON: ", simdjson::error_message(error), " (expected ", what, ")"));
}

void RowParser::Impl::skip(json::value value, int depth) {
  start_value(value);
  if (depth > kMaxDepth) fail(text("nested more than ", kMaxDepth, " deep"));
  switch (take(value.type(), "a value")) {
    case json::json_type::array:
      for (auto element : take(value.get_array(), "an array")) skip(take(std::move(element), "a value"), depth + 1);
      break;
    case json::json_type::object:
      for (auto field : take(value.get_object(), "an object")) {
        json::field one = take(std::move(field), "a field");
        take(one.unescaped_key(), "a key");
        skip(one.value(), depth + 1);
      }
      break;
    case json::json_type::string:
      take(value.get_string(), "a string");
      break;
    case json::json_type::number:
      take(value.get_double(), "a number");
      break;
    case json::json_type::boolean:
      take(value.get_bool(), "true or false");
      break;
    case json::json_type::null:
      if (!take(value.is_null(), "null")) fail("bad JSON: expected null");
      break;
    default:
      fail("bad JSON: expected a value");
  }
}

double RowParser::Impl::number(json::value value, std::string_view what) {
  start_value(value);
  const double read = take(value.get_double(), what);
  if (!std::isfinite(read)) fail(text(what, " is not finite"));
  return read;
}

int32_t RowParser::Impl::integer(json::value value, std::string_view what) {
  start_value(value);
  const int64_t read = take(value.get_int64(), what);
  if (read > std::numeric_limits<int32_t>::max() || read < std::numeric_limits<int32_t>::min())
    fail(text(read, " is out of range: expected ", what));
  return static_cast<int32_t>(read);
}

int32_t RowParser::Impl::token_id(json::value value, Column column) {
  const int32_t id = integer(value, "an integer token id");
  if (id >= 0 || (column == Column::kLabels && id == kIgnore)) return id;
  fail(text(names.in_file(column), " holds ", id, ": token ids are 0 or more",
            column == Column::kLabels ? text(", ", kIgnore, " where nothing is supervised") : ""));
}

template <typename Read>
void RowParser::Impl::each_field(json::object object, const std::vector<Column>& wanted, std::string_view where,
                                 Read read) {
  std::array<bool, kColumns> done{};
  for (auto result : object) {
    json::field field = take(std::move(result), "a field");
    const std::string key(take(field.unescaped_key(), "a key"));
    const std::optional<Column> column = names.find(key);
    if (where.empty()) names_read.push_back(key);
    json::value value = field.value();
    start_value(value);
    if (!column || std::find(wanted.begin(), wanted.end(), *column) == wanted.end()) {
      skip(value, 1);
      unread.push_back(text(where, key));
      continue;
    }
    if (std::exchange(done[static_cast<size_t>(*column)], true)) fail(text("column '", key, "' appears twice"));
    read(*column, value);
  }
}

bool RowParser::Impl::is_cut(json::value value, Column column) {
  start_value(value);
  if (take(value.type(), "a value") == json::json_type::null && take(value.is_null(), "null")) return false;
  if (column == Column::kTruncated)
    return take(value.get_bool(), text("true or false in '", names.in_file(column), "'"));
  const std::string reason = string(value, text("a text in '", names.in_file(column), "'"));
  std::string known;
  for (const auto& [name, cut] : kFinishReasons) {
    if (name == reason) return cut;
    known += text(known.empty() ? "" : ", ", name);
  }
  fail(text(names.in_file(column), " is '", reason, "': use one of ", known));
}

std::vector<int32_t> RowParser::Impl::cuts(json::value value, Column column) {
  if (take(value.type(), "a value") != json::json_type::array) return {is_cut(value, column)};
  return list<int32_t>(value, "a list", [&](json::value one) { return int32_t{is_cut(one, column)}; });
}

TokenCompletion RowParser::Impl::token_completion(json::value value) {
  static const std::vector<Column> kWanted{Column::kIds,       Column::kReward,      Column::kAdvantage,
                                           Column::kOldLogps,  Column::kRefLogps,    Column::kMask,
                                           Column::kTruncated, Column::kFinishReason};
  start_value(value);
  TokenCompletion one;
  one.offset = value_offset;
  bool has_ids = false;
  each_field(take(value.get_object(), "a completion {ids, reward | advantage, ...}"), kWanted, "completions.",
             [&](Column column, json::value v) {
               if (column == Column::kIds) one.ids = ids(v, column), has_ids = true;
               if (column == Column::kReward) one.reward = number(v, "a reward");
               if (column == Column::kAdvantage) one.advantage = number(v, "an advantage");
               if (column == Column::kOldLogps) one.old_logps = numbers(v, "a log-probability");
               if (column == Column::kRefLogps) one.ref_logps = numbers(v, "a log-probability");
               if (column == Column::kTruncated || column == Column::kFinishReason) {
                 if (one.truncated) fail("the completion says twice how it ended: keep one of the two fields");
                 one.truncated = is_cut(v, column);
               }
               if (column == Column::kMask)
                 one.mask = list<int32_t>(v, "a list of 0 and 1", [&](json::value m) {
                   const int32_t bit = integer(m, "0 or 1");
                   if (bit != 0 && bit != 1) fail(text(names.in_file(column), " holds ", bit, ": use 0 or 1"));
                   return bit;
                 });
             });
  if (!has_ids) fail_at(place, one.offset, text("a completion has no '", names.in_file(Column::kIds), "'"));
  return one;
}

/// An object or a list as it stands in the line, not yet looked into.
std::string RowParser::Impl::raw(json::value value, std::string_view what) {
  start_value(value);
  const bool is_list = take(value.type(), what) == json::json_type::array;
  return std::string(is_list ? take(take(value.get_array(), what).raw_json(), what)
                             : take(take(value.get_object(), what).raw_json(), what));
}

ChatMessages RowParser::Impl::messages(json::value value, std::string_view what) {
  start_value(value);
  const size_t begin = value_offset;
  ChatMessages all;
  json::array array = take(value.get_array(), what);
  for (auto element : array) {
    json::value one = take(std::move(element), "a message");
    const std::string json = raw(one, "a message {\"role\": ..., \"content\": ...}");
    const size_t at = value_offset;
    try {
      all.push_back(read_message(json));
    } catch (const MessageError& error) {
      fail_at(place, at + error.at, error.what());
    }
  }
  if (all.empty()) fail_at(place, begin, "the conversation is empty: give at least one message");
  return all;
}

/// Objects, strings or conversations: the first element decides, the others must be alike.
void RowParser::Impl::completions(json::value value, Cell& cell) {
  std::vector<TokenCompletion> tokens;
  std::vector<std::string> texts;
  std::vector<ChatMessages> chats;
  json::array array = take(value.get_array(), "a list of completions");
  for (auto element : array) {
    json::value one = take(std::move(element), "a completion");
    start_value(one);
    const size_t at = value_offset;
    switch (take(one.type(), "a completion")) {
      case json::json_type::string:
        texts.push_back(string(one, "a completion"));
        break;
      case json::json_type::array:
        chats.push_back(messages(one, "a completion"));
        break;
      default:
        tokens.push_back(token_completion(one));
    }
    if (!tokens.empty() + !texts.empty() + !chats.empty() > 1)
      fail_at(place, at, "completions mixes texts, conversations and objects: write them all alike");
  }
  if (!tokens.empty())
    cell.value = std::move(tokens);
  else if (!texts.empty())
    cell.value = std::move(texts);
  else if (!chats.empty())
    cell.value = std::move(chats);
  else
    fail_at(place, cell.offset, "completions is empty: give at least one");
}

/// What the chat template gets besides messages: tools, as a list or, as Arrow files have it, a text that holds one;
/// and an object of variables. null: none.
void RowParser::Impl::extras(Column column, json::value value, Cell& cell) {
  const bool is_tools = column == Column::kTools;
  const std::string what = text(is_tools ? "a list" : "an object", " or null in '", names.in_file(column), "'");
  const json::json_type type = take(value.type(), what);
  RawJson read;
  if (type == json::json_type::null)
    take(value.is_null(), what);
  else if (type == json::json_type::string && is_tools)
    read.json = string(value, what);
  else if (type == (is_tools ? json::json_type::array : json::json_type::object))
    read.json = raw(value, what);
  else
    fail(text("wrong type: expected ", what));
  if (!read.json.empty()) {
    try {
      check_json(read.json);
    } catch (const MessageError& error) {
      fail_at(place, cell.offset + error.at, error.what());
    }
  }
  cell.value = std::move(read);
}

void RowParser::Impl::read_cell(Column column, json::value value, Cell& cell) {
  start_value(value);
  cell.offset = value_offset;
  switch (column) {
    case Column::kInputIds:
    case Column::kLabels:
    case Column::kPromptIds:
    case Column::kChosenIds:
    case Column::kRejectedIds:
      cell.value = ids(value, column);
      break;
    case Column::kMargin:
      cell.value = number(value, "a margin");
      break;
    case Column::kTruncated:
    case Column::kFinishReason:
      cell.value = cuts(value, column);
      break;
    case Column::kRefChosenLogps:
    case Column::kRefRejectedLogps:
      if (take(value.type(), "a value") == json::json_type::array)
        cell.value = numbers(value, "a log-probability");
      else
        cell.value = number(value, "a log-probability, of the whole answer or of each of its tokens");
      break;
    case Column::kRewards:
      cell.value = numbers(value, "a reward");
      break;
    case Column::kAdvantages:
      cell.value = numbers(value, "an advantage");
      break;
    case Column::kCompletions:
      completions(value, cell);
      break;
    case Column::kMessages:
      cell.value = messages(value, "a list of messages");
      break;
    case Column::kTools:
    case Column::kChatTemplateKwargs:
      extras(column, value, cell);
      break;
    default:
      if (column != Column::kText && take(value.type(), "a value") == json::json_type::array)
        cell.value = messages(value, "a list of messages");
      else
        cell.value = string(value, text("a string in '", names.in_file(column), "'"));
  }
}

RowParser::RowParser(const ColumnNames& names) : impl_(std::make_unique<Impl>(names)) {}
RowParser::~RowParser() = default;

Row RowParser::parse(std::string& line, const LinePlace& place, const std::vector<Column>& wanted) {
  Impl& impl = *impl_;
  const size_t length = line.size();
  line.append(simdjson::SIMDJSON_PADDING, '\0');
  impl.place = place;
  impl.line = std::string_view(line.data(), length);
  impl.value_offset = 0;
  Row row;
  row.place = place;
  if (const auto error =
          impl.parser.iterate(simdjson::padded_string_view(line.data(), length, line.size())).get(impl.document))
    impl.fail_json(error, "an object");
  json::object object;
  if (const auto error = impl.document.get_object().get(object))
    impl.fail_json(error, "a row {\"column\": value, ...}");
  impl.names_read.clear(), impl.unread.clear();
  impl.each_field(object, wanted, "", [&](Column column, json::value value) {
    Cell& cell = row.cell[static_cast<size_t>(column)].emplace();
    impl.read_cell(column, value, cell);
  });
  row.names = std::move(impl.names_read), row.unread = std::move(impl.unread);
  const char* rest = nullptr;
  if (impl.document.current_location().get(rest) == simdjson::SUCCESS)  // an error here means: at the end
    fail_at(place, static_cast<size_t>(rest - line.data()),
            "bad JSON: more behind the row's object, one object a line");
  return row;
}

}  // namespace fpdist::data
