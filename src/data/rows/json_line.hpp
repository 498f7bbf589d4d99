#pragma once
// data: one line of JSON on its way through simdjson's on-demand front end: values are visited once, in the order of
// the file, straight from the text. Nothing is valid JSON until it was visited.

#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/data/rows/row.hpp"

namespace fpdist::data {

namespace json = simdjson::ondemand;

/// Typed values of the line, or a DataError with their place. Keeps simdjson's buffers between lines.
struct JsonLine {
  json::parser parser;
  json::document document;
  LinePlace place;
  std::string_view line;
  size_t value_offset = 0;  ///< of the value being read: where an error is when simdjson cannot say

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

  /// Walks through a value that nobody wants, so that it is known to be JSON. Deep nesting is refused.
  void skip(json::value value, int depth);
  double number(json::value value, std::string_view what);
  int32_t integer(json::value value, std::string_view what);
  std::string string(json::value value, std::string_view what);
  /// A text, or an integer as one.
  std::string name(json::value value, std::string_view what);
  /// An object or a list as it stands in the line, not yet looked into.
  std::string raw(json::value value, std::string_view what);
  /// One message.
  ChatMessage message(json::value value);
  /// A list of messages. Throws for an empty one.
  ChatMessages messages(json::value value, std::string_view what);
  template <typename T, typename Read>
  std::vector<T> list(json::value value, std::string_view what, Read read) {
    start_value(value);
    std::vector<T> all;
    json::array array = take(value.get_array(), what);
    for (auto element : array) all.push_back(read(take(std::move(element), what)));
    return all;
  }
  std::vector<double> numbers(json::value value, std::string_view what) {
    return list<double>(value, "a list of numbers", [&](json::value v) { return number(v, what); });
  }
};

}  // namespace fpdist::data
