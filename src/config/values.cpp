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

bool parse(const std::string& value, Method& out) {
  try {
    out = method_from_name(value);
  } catch (const ConfigError&) {
    return false;
  }
  return true;
}

bool parse(const std::string& value, DType& out) {
  try {
    out = dtype_from_name(value);
  } catch (const ConfigError&) {
    return false;
  }
  return true;
}

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

bool store(const RawValue& value, Map& out) {
  const auto* map = std::get_if<Map>(&value);
  if (map) out = *map;
  return map != nullptr;
}

std::string print(bool value) { return value ? "true" : "false"; }
std::string print(const std::string& value) { return value; }
std::string print(DType value) { return std::string(name_of(value)); }
std::string print(Method value) { return std::string(name_of(value)); }
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
std::string print(const Map& values) {
  std::string out;
  for (const auto& [ours, theirs] : values) out += (out.empty() ? "" : ",") + ours + "=" + theirs;
  return out;
}

}  // namespace

std::string_view type_of(const Field& field) {
  return std::visit([](auto* value) { return kTypeName<std::remove_pointer_t<decltype(value)>>; }, field);
}

std::optional<std::string> assign(const Key& key, const RawValue& value, trainer::Config& config) {
  const Field field = key.field(config);
  if (std::visit([&](auto* out) { return store(value, *out); }, field)) return std::nullopt;
  return text("expected ", type_of(field), ", got ", printed(value));
}

std::string scalar_text(const Field& field) {
  return std::visit([](auto* value) { return print(*value); }, field);
}

}  // namespace fpdist::config
