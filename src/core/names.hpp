#pragma once
// core: the spelling of an enum in configs and messages, as one table of (value, name).

#include <stdexcept>
#include <string>
#include <string_view>

#include "fpdist/core/error.hpp"

namespace fpdist {

template <typename Table, typename Value>
std::string_view find_name(const Table& table, Value value) {
  for (const auto& [entry, name] : table)
    if (entry == value) return name;
  throw std::logic_error("enum value without a name");
}

/// Throws ConfigError listing the names that there are.
template <typename Table>
auto find_value(const Table& table, std::string_view what, std::string_view name) {
  std::string known;
  for (const auto& [entry, entry_name] : table) {
    if (entry_name == name) return entry;
    known += (known.empty() ? "" : " | ") + std::string(entry_name);
  }
  throw ConfigError(text("unknown ", what, " '", name, "': use ", known));
}

}  // namespace fpdist
