#pragma once
// config: the keys of all rooms in their sections. YAML, command line, --help, echo and range checks all read this
// list, so a key exists once: as a field of a room's options and a line of its options.cpp.

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fpdist/config/config.hpp"
#include "src/core/key.hpp"

namespace fpdist::config {

/// A key where the configuration has it.
struct ConfigKey {
  std::string name;          ///< section.key, or the key alone at the top level
  std::string_view section;  ///< "train" of train.seed, "" at the top level
  const Key* key;
  void* (*options)(Config&);  ///< the struct that has the field

  std::string_view leaf() const { return key->name; }
  Field field(Config& config) const { return key->field(options(config)); }
};

/// Every key, sections together, in the order of the echo.
const std::vector<ConfigKey>& keys();

/// The key with this full name, '-' read as '_'; nullptr when there is none.
const ConfigKey* find_key(std::string_view name);

/// What the type of a field is called in errors and help: "an integer", "true or false", ...
std::string type_of(const Field& field);

/// What --help says that the key may hold.
std::string values_of(const ConfigKey& key);

/// A value as a file or the command line wrote it.
using RawValue = std::variant<std::string, Texts, TextMap>;

/// Stores `value` in the key's field of `config`, or says what is wrong with it ("expected an integer, got '1.5'").
std::optional<std::string> assign(const ConfigKey& key, const RawValue& value, Config& config);

/// The field's value as it is written in YAML and on the command line; lists and maps are left to their writers.
std::string scalar_text(const Field& field);

}  // namespace fpdist::config
