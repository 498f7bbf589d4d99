#pragma once
// core: keys of a configuration. The struct of a room's options.hpp has a field for every key; the room's options.cpp
// gives each a line with its meaning and what it may hold. config collects the lines into sections; help, YAML, command
// line, echo and range checks all come from them. What several keys must agree on is config's to check.

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace fpdist {

using Texts = std::vector<std::string>;
using TextMap = std::map<std::string, std::string>;
using Integers = std::vector<int64_t>;
using Numbers = std::vector<double>;

/// A field of an enum, which a configuration writes as one of its names.
struct NamedField {
  void* value;
  std::vector<std::string_view> (*names)();
  size_t (*index)(const void* value);        ///< of the value's name
  void (*set)(void* value, size_t of_name);  ///< to the value with this name
};

/// A field of some struct of options. The alternative is the key's type.
using Field = std::variant<bool*, int*, int64_t*, uint64_t*, double*, std::string*, Texts*, Integers*, Numbers*,
                           TextMap*, NamedField>;

/// What is wrong with a value, as it follows the key's name: " is 0; it must be 1 or more".
using Complaints = std::vector<std::string>;

/// What a key may hold, beyond what its type says.
struct Valid {
  std::string_view values = "";  ///< in --help: ">= 1", "auto | cpu | cuda"; empty: the type says it
  std::string_view must = "";    ///< how the complaint goes on: "1 or more"
  /// Of a number that is finite; null: any.
  bool (*accepts)(double) = nullptr;
  /// Of anything else; null: any, or whoever uses it says what is wrong with it.
  void (*check)(const Valid& valid, const Field& field, Complaints& complaints) = nullptr;

  constexpr Valid saying(std::string_view other) const {
    Valid changed = *this;
    changed.must = other;
    return changed;
  }
};

inline constexpr Valid kAboveZero{.values = "> 0", .must = "above 0", .accepts = [](double x) { return x > 0; }};
inline constexpr Valid kFromZero{.values = ">= 0", .must = "0 or more", .accepts = [](double x) { return x >= 0; }};
inline constexpr Valid kFromOne{.values = ">= 1", .must = "1 or more", .accepts = [](double x) { return x >= 1; }};

/// Complains of a text that is none of `valid.values`: "nccl | staged".
void check_one_of(const Valid& valid, const Field& field, Complaints& complaints);
/// Complains of an empty text; `valid.must` is what to do: "give the folder to write to".
void check_filled(const Valid& valid, const Field& field, Complaints& complaints);

struct Key {
  std::string_view name;  ///< the field's
  Field (*field)(void* options);
  std::string_view meaning;
  Valid valid;
};

constexpr Key make_key(std::string_view name, Field (*field)(void*), std::string_view meaning, Valid valid = {}) {
  return {name, field, meaning, valid};
}

/// What is wrong with the key's value in `options`.
Complaints complaints_of(const Key& key, void* options);

/// "sft, dpo, reward or grpo"; with " | " between and before the last, as a list of values is written.
std::string joined(std::span<const std::string_view> names, std::string_view between, std::string_view last);

/// `kTable`: (value, name) of an enum.
template <const auto& kTable>
NamedField named_field(void* value) {
  using Enum = std::remove_cvref_t<decltype(kTable[0].first)>;
  return {.value = value,
          .names =
              [] {
                std::vector<std::string_view> names;
                for (const auto& [entry, name] : kTable) names.push_back(name);
                return names;
              },
          .index =
              [](const void* of) {
                const auto found = std::find_if(kTable.begin(), kTable.end(), [&](const auto& entry) {
                  return entry.first == *static_cast<const Enum*>(of);
                });
                return static_cast<size_t>(found - kTable.begin());
              },
          .set = [](void* of, size_t name) { *static_cast<Enum*>(of) = kTable[name].first; }};
}

// A line of the list of keys of Options, an alias where the list stands. The field is named once: its spelling is the
// key's name. FPDIST_KEY(field, meaning[, Valid]); an enum has a table of (value, name) instead.
#define FPDIST_KEY(member, meaning, ...) \
  make_key(                              \
      #member, [](void* of) -> Field { return &static_cast<Options*>(of)->member; }, meaning, Valid(__VA_ARGS__))
#define FPDIST_NAMED_KEY(member, meaning, table) \
  make_key(                                      \
      #member, [](void* of) -> Field { return named_field<table>(&static_cast<Options*>(of)->member); }, meaning)

}  // namespace fpdist
