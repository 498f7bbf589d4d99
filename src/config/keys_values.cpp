// Values: text to a field and back, chosen by the field's type.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/config/keys.hpp"
#include "src/config/names.hpp"

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
constexpr std::string_view kTypeName<Integers> = "a list of integers";
template <>
constexpr std::string_view kTypeName<Numbers> = "a list of numbers";
template <>
constexpr std::string_view kTypeName<Texts> = "one text or a list of them";
template <>
constexpr std::string_view kTypeName<TextMap> = "a map of texts";

bool parse(const std::string& value, std::string& out) {
  out = value;
  return true;
}

bool parse(const std::string& value, bool& out) {
  if (value != "true" && value != "false") return false;
  out = value == "true";
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
  if (std::holds_alternative<Texts>(value)) return "a list";
  if (std::holds_alternative<TextMap>(value)) return "a map";
  const auto& scalar = std::get<std::string>(value);
  return scalar.empty() ? "nothing" : text("'", scalar, "'");
}

template <typename T>
bool store(const RawValue& value, T& out) {
  const auto* scalar = std::get_if<std::string>(&value);
  return scalar && parse(*scalar, out);
}

bool store(const RawValue& value, Texts& out) {
  if (const auto* scalar = std::get_if<std::string>(&value)) {
    out = {*scalar};
    return true;
  }
  const auto* list = std::get_if<Texts>(&value);
  if (list) out = *list;
  return list != nullptr;
}

template <typename Number>
bool store(const RawValue& value, std::vector<Number>& out) {
  const auto* list = std::get_if<Texts>(&value);
  const Texts items = list ? *list : Texts{};
  std::vector<Number> parsed(items.size());
  for (size_t i = 0; i < items.size(); ++i)
    if (!parse(items[i], parsed[i])) return false;
  if (list) out = std::move(parsed);
  return list != nullptr;
}

bool store(const RawValue& value, TextMap& out) {
  const auto* map = std::get_if<TextMap>(&value);
  if (map) out = *map;
  return map != nullptr;
}

bool store(const RawValue& value, const NamedField& out) {
  const auto* scalar = std::get_if<std::string>(&value);
  const std::vector<std::string_view> names = out.names();
  const auto found = scalar ? std::find(names.begin(), names.end(), *scalar) : names.end();
  if (found != names.end()) out.set(out.value, static_cast<size_t>(found - names.begin()));
  return found != names.end();
}

/// The field of a pointer alternative; a named one is its own.
template <typename T>
T& in(T* pointer) {
  return *pointer;
}
const NamedField& in(const NamedField& named) { return named; }

std::string print(const NamedField& field) { return std::string(field.names().at(field.index(field.value))); }
std::string print(bool value) { return value ? "true" : "false"; }
std::string print(const std::string& value) { return value; }
template <typename Number>
requires std::is_arithmetic_v<Number> std::string print(Number value) {
  char buffer[64];  // the shortest digits that read back to the same double
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}
std::string print(const Texts& values) {
  std::string out;
  for (const std::string& value : values) out += (out.empty() ? "" : ",") + value;
  return out;
}
template <typename Number>
std::string print(const std::vector<Number>& values) {
  std::string out;
  for (const Number value : values) {
    if (!out.empty()) out.push_back(',');
    out += print(value);
  }
  return out;
}
std::string print(const TextMap& values) {
  std::string out;
  for (const auto& [ours, theirs] : values) out += (out.empty() ? "" : ",") + ours + "=" + theirs;
  return out;
}

}  // namespace

std::string type_of(const Field& field) {
  if (const auto* named = std::get_if<NamedField>(&field)) return joined(named->names(), ", ", " or ");
  return std::string(std::visit(
      [](const auto& of) -> std::string_view { return kTypeName<std::remove_cvref_t<decltype(in(of))>>; }, field));
}

std::optional<std::string> assign(const ConfigKey& key, const RawValue& given, Config& config) {
  const Field field = key.field(config);
  RawValue value = given;
  if (auto* const scalar = std::get_if<std::string>(&value)) {
    OurValue meant = our_value(key.name, *scalar);
    if (!meant.refusal.empty()) return text(printed(value), ": ", meant.refusal);
    *scalar = std::move(meant.value);
  }
  if (std::visit([&](const auto& out) { return store(value, in(out)); }, field)) return std::nullopt;
  return text("expected ", type_of(field), ", got ", printed(value));
}

std::string scalar_text(const Field& field) {
  return std::visit([](const auto& of) { return print(in(of)); }, field);
}

}  // namespace fpdist::config
