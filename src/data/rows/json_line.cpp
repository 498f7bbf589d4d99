#include "src/data/rows/json_line.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

namespace fpdist::data {
namespace {

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

/// Begins with what other writers of JSON make of numbers that are none (Python's json, JavaScript), or with a number
/// that no double holds.
bool is_not_finite(std::string_view value) {
  for (const std::string_view word : {"NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"})
    if (value.starts_with(word)) return true;
  double read = 0;
  return std::from_chars(value.data(), value.data() + value.size(), read).ec == std::errc::result_out_of_range;
}

}  // namespace

void JsonLine::fail_json(simdjson::error_code error, std::string_view what) {
  if (error == simdjson::UTF8_ERROR) fail_at(place, valid_utf8_prefix(line), "invalid UTF-8: save the file as UTF-8");
  if (value_offset < line.size() && is_not_finite(line.substr(value_offset)))
    fail(text("a number that is not finite: expected ", what));
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

void JsonLine::skip(json::value value, int depth) {
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

double JsonLine::number(json::value value, std::string_view what) {
  start_value(value);
  const double read = take(value.get_double(), what);
  if (!std::isfinite(read)) fail(text(what, " is not finite"));
  return read;
}

int32_t JsonLine::integer(json::value value, std::string_view what) {
  start_value(value);
  const int64_t read = take(value.get_int64(), what);
  if (read > std::numeric_limits<int32_t>::max() || read < std::numeric_limits<int32_t>::min())
    fail(text(read, " is out of range: expected ", what));
  return static_cast<int32_t>(read);
}

std::string JsonLine::string(json::value value, std::string_view what) {
  start_value(value);
  return std::string(take(value.get_string(), what));
}

std::string JsonLine::name(json::value value, std::string_view what) {
  start_value(value);
  if (take(value.type(), what) == json::json_type::string) return string(value, what);
  return text(take(value.get_int64(), what));
}

std::string JsonLine::raw(json::value value, std::string_view what) {
  start_value(value);
  const bool is_list = take(value.type(), what) == json::json_type::array;
  return std::string(is_list ? take(take(value.get_array(), what).raw_json(), what)
                             : take(take(value.get_object(), what).raw_json(), what));
}

ChatMessage JsonLine::message(json::value value) {
  const std::string json = raw(value, "a message {\"role\": ..., \"content\": ...}");
  const size_t at = value_offset;
  try {
    return read_message(json);
  } catch (const MessageError& error) {
    fail_at(place, at + error.at, error.what());
  }
}

ChatMessages JsonLine::messages(json::value value, std::string_view what) {
  start_value(value);
  const size_t begin = value_offset;
  ChatMessages all;
  json::array array = take(value.get_array(), what);
  for (auto element : array) all.push_back(message(take(std::move(element), "a message")));
  if (all.empty()) fail_at(place, begin, "the conversation is empty: give at least one message");
  return all;
}

}  // namespace fpdist::data
