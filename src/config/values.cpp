// Values: text to a field and back, chosen by the field's type.

#include <charconv>
#include <cmath>
#include <limits>
#include <type_traits>

#include "fpdist/core/error.hpp"
#include "src/config/keys.hpp"

namespace fpdist::config {
namespace {

template <typename T>
constexpr std::string_view kTypeName = std::is_unsigned_v<T> ? "an integer, 0 or more" : "an integer";
template <>
constexpr std::string_view kTypeName<bool> = "true or false";
template <>
constexpr std::string_view kTypeName<double> = "a number";
template <>
constexpr std::string_view kTypeName<std::string> = "a text";
template <>
constexpr std::string_view kTypeName<DType> = "float32, bfloat16 or float64";
template <>
constexpr std::string_view kTypeName<Method> = "sft, dpo, reward or grpo";
template <>
constexpr std::string_view kTypeName<plan::Schedule> = "1f1b, interleaved or zb-h1";
template <>
constexpr std::string_view kTypeName<plan::CpMethod> = "auto, ring, groupcast or ulysses";
template <>
constexpr std::string_view kTypeName<Integers> = "a list of integers";
template <>
constexpr std::string_view kTypeName<List> = "one text or a list of them";
template <>
constexpr std::string_view kTypeName<Map> = "a map of texts";

bool parse(const std::string& value, std::string& out) {
  out = value;
  return true;
}

bool parse(const std::string& value, bool& out) {
  if (value != "true" && value != "false") return false;
  out = value == "true";
  return true;
}

template <typename Enum>
bool parse_name(const std::string& value, Enum& out, Enum (*from_name)(std::string_view)) {
  try {
    out = from_name(value);
  } catch (const ConfigError&) {
    return false;
  }
  return true;
}

bool parse(const std::string& value, Method& out) { return parse_name(value, out, method_from_name); }
bool parse(const std::string& value, DType& out) { return parse_name(value, out, dtype_from_name); }
bool parse(const std::string& value, plan::Schedule& out) { return parse_name(value, out, plan::schedule_from_name); }
bool parse(const std::string& value, plan::CpMethod& out) { return parse_name(value, out, plan::cp_method_from_name); }

// from_chars reads no locale and no blanks; a leading '+' and YAML's digit groups are not worth their surprises.
template <typename Number>
requires std::is_arithmetic_v<Number>
bool parse(const std::string& value, Number& out) {
  Number parsed{};
  const char* end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, parsed);
  if (error != std::errc() || stop != end) return false;
  if constexpr (std::is_floating_point_v<Number>) {
    if (!std::isfinite(parsed)) return false;
  }
  out = parsed;
  return true;
}

std::string printed(const RawValue& value) {
  if (std::holds_alternative<List>(value)) return "a list";
  if (std::holds_alternative<Map>(value)) return "a map";
  const auto& scalar = std::get<std::string>(value);
  return scalar.empty() ? "nothing" : text("'", scalar, "'");
}

template <typename T>
bool store(const RawValue& value, T& out) {
  const auto* scalar = std::get_if<std::string>(&value);
  return scalar && parse(*scalar, out);
}

bool store(const RawValue& value, List& out) {
  if (const auto* scalar = std::get_if<std::string>(&value)) {
    out = {*scalar};
    return true;
  }
  const auto* list = std::get_if<List>(&value);
  if (list) out = *list;
  return list != nullptr;
}

bool store(const RawValue& value, Integers& out) {
  const auto* list = std::get_if<List>(&value);
  const List items = list ? *list : List{};
  Integers parsed(items.size());
  for (size_t i = 0; i < items.size(); ++i)
    if (!parse(items[i], parsed[i])) return false;
  if (list) out = std::move(parsed);
  return list != nullptr;
}

bool store(const RawValue& value, Map& out) {
  const auto* map = std::get_if<Map>(&value);
  if (map) out = *map;
  return map != nullptr;
}

std::string print(bool value) { return value ? "true" : "false"; }
std::string print(const std::string& value) { return value; }
template <typename Enum>
requires std::is_enum_v<Enum> std::string print(Enum value) { return std::string(name_of(value)); }
template <typename Number>
requires std::is_arithmetic_v<Number> std::string print(Number value) {
  char buffer[64];  // the shortest digits that read back to the same double
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}
std::string print(const List& values) {
  std::string out;
  for (const std::string& value : values) out += (out.empty() ? "" : ",") + value;
  return out;
}
std::string print(const Integers& values) {
  std::string out;
  for (const int64_t value : values) {
    if (!out.empty()) out.push_back(',');
    out += std::to_string(value);
  }
  return out;
}
std::string print(const Map& values) {
  std::string out;
  for (const auto& [ours, theirs] : values) out += (out.empty() ? "" : ",") + ours + "=" + theirs;
  return out;
}

}  // namespace

std::string_view type_of(const Field& field) {
  return std::visit([](auto* value) { return kTypeName<std::remove_pointer_t<decltype(value)>>; }, field);
}

std::optional<std::string> assign(const Key& key, const RawValue& value, Config& config) {
  const Field field = key.field(config);
  if (std::visit([&](auto* out) { return store(value, *out); }, field)) return std::nullopt;
  return text("expected ", type_of(field), ", got ", printed(value));
}

std::string scalar_text(const Field& field) {
  return std::visit([](auto* value) { return print(*value); }, field);
}

}  // namespace fpdist::config
