#pragma once
// The one table of keys: YAML, command line, --help and the echo all read it, so a key exists once.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fpdist/config/config.hpp"

namespace fpdist::config {

using List = std::vector<std::string>;
using Map = std::map<std::string, std::string>;
using Integers = std::vector<int64_t>;
/// A field of Config. The alternative is the key's type.
using Field = std::variant<bool*, int*, int64_t*, uint64_t*, double*, std::string*, DType*, Method*, plan::Schedule*,
                           plan::CpMethod*, List*, Integers*, Map*>;

struct Key {
  std::string_view name;  ///< section.key, or the key alone at the top level
  Field (*field)(Config&);
  std::string_view meaning;
  std::string_view values;  ///< valid values where the type does not say them
};

/// Every key, sections together, in the order of the echo.
std::span<const Key> keys();

/// The key with this full name, '-' read as '_'; nullptr when there is none.
const Key* find_key(std::string_view name);

/// "train" of train.seed, "" at the top level; "seed".
std::string_view section_of(const Key& key);
std::string_view leaf_of(const Key& key);

/// What the type of a field is called in errors and help: "an integer", "true or false", ...
std::string_view type_of(const Field& field);

/// A value as a file or the command line wrote it.
using RawValue = std::variant<std::string, List, Map>;

/// Stores `value` in the key's field of `config`, or says what is wrong with it ("expected an integer, got '1.5'").
std::optional<std::string> assign(const Key& key, const RawValue& value, Config& config);

/// The field's value as it is written in YAML and on the command line; lists and maps are left to their writers.
std::string scalar_text(const Field& field);

}  // namespace fpdist::config
