#include "src/config/yaml.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string_view>
#include <type_traits>

#include "fpdist/config/command_line.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "src/config/keys.hpp"
#include "src/config/names.hpp"
#include "src/core/words.hpp"

namespace fpdist::config {
namespace {

bool is_section(std::string_view name) {
  return std::any_of(keys().begin(), keys().end(), [&](const ConfigKey& key) { return key.section == name; });
}

class YamlReader {
 public:
  YamlReader(const std::string& file, Config& config) : file_(file), config_(config) {}

  void read_file() {
    std::ifstream in(file_, std::ios::binary);
    // A folder opens like a file and reads as an empty one.
    if (!in.is_open() || std::filesystem::is_directory(file_)) {
      problems_.push_back(
          text(file_, ": cannot be read", looked_in(file_), ": give the path of an existing YAML file"));
      return;
    }
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    try {
      const std::vector<YAML::Node> documents = YAML::LoadAll(bytes);
      if (documents.size() > 1)
        problem(documents[1].Mark(), "a second YAML document; a file holds one configuration");
      else if (!documents.empty())
        read_root(documents[0]);
    } catch (const YAML::Exception& error) {
      problem(error.mark, text("not valid YAML: ", error.msg));
    }
  }

  std::vector<std::string> take_problems() { return std::move(problems_); }

 private:
  void problem(const YAML::Mark& mark, const std::string& what) {
    problems_.push_back(mark.is_null() ? text(file_, ": ", what)
                                       : text(file_, ":", mark.line + 1, ":", mark.column + 1, ": ", what));
  }

  /// Calls visit(name, key node, value node) for every entry of a map that is written once and has a plain name.
  template <typename Visit>
  void for_each_entry(const YAML::Node& map, const std::string& prefix, const Visit& visit) {
    std::set<std::string> seen;
    for (const auto& entry : map) {
      if (!entry.first.IsScalar()) {
        problem(entry.first.Mark(), "a key must be a plain word");
        continue;
      }
      std::string name = entry.first.Scalar();
      const std::string written = name;
      std::replace(name.begin(), name.end(), '-', '_');
      if (!seen.insert(name).second)
        problem(entry.first.Mark(), text("duplicate key '", prefix, written, "'; keep one"));
      else
        visit(prefix + written, entry.first, entry.second);
    }
  }

  void read_root(const YAML::Node& root) {
    if (root.IsNull()) return;
    if (!root.IsMap()) return problem(root.Mark(), "expected sections such as 'train:' with keys inside");
    for_each_entry(root, "", [&](const std::string& name, const YAML::Node& at, const YAML::Node& value) {
      if (!is_section(name)) {
        const ConfigKey* key = find_key(name);
        if (key && key->section.empty()) return read_value(*key, value);
        if (key) return problem(at.Mark(), text("write '", key->leaf(), "' inside the section '", key->section, ":'"));
        return problem(at.Mark(), unknown_key(name));
      }
      if (value.IsNull()) return;
      if (!value.IsMap()) return problem(value.Mark(), text("section '", name, "' must hold keys"));
      read_section(name, value);
    });
  }

  void read_section(const std::string& section, const YAML::Node& map) {
    for_each_entry(map, section + ".", [&](const std::string& name, const YAML::Node& at, const YAML::Node& value) {
      const ConfigKey* key = find_key(name);
      if (key)
        read_value(*key, value);
      else
        problem(at.Mark(), unknown_key(name));
    });
  }

  void read_value(const ConfigKey& key, const YAML::Node& node) {
    const std::optional<RawValue> value = raw(key, node);
    if (!value) return;
    if (const auto wrong = assign(key, *value, config_)) problem(node.Mark(), text(key.name, ": ", *wrong));
  }

  /// Nothing when a problem was recorded.
  std::optional<RawValue> raw(const ConfigKey& key, const YAML::Node& node) {
    const auto scalar = [&](const YAML::Node& item) -> std::optional<std::string> {
      if (item.IsScalar()) return item.Scalar();
      problem(item.Mark(), text(key.name, ": expected ", type_of(key.field(config_)),
                                item.IsNull() ? ", got nothing" : ", got a list or map inside"));
      return std::nullopt;
    };
    if (node.IsSequence()) {
      Texts list;
      for (const YAML::Node& item : node) {
        const auto element = scalar(item);
        if (!element) return std::nullopt;
        list.push_back(*element);
      }
      return list;
    }
    if (!node.IsMap()) return scalar(node);
    TextMap map;
    bool good = true;
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const auto ours = scalar(entry.first), theirs = scalar(entry.second);
      good = good && ours && theirs;
      if (!good) return std::nullopt;
      if (!map.emplace(*ours, *theirs).second) {
        problem(entry.first.Mark(), text("duplicate key '", key.name, ".", *ours, "'; keep one"));
        return std::nullopt;
      }
    }
    return map;
  }

  const std::string& file_;
  Config& config_;
  std::vector<std::string> problems_;
};

struct Emit {
  YAML::Emitter& out;

  void text(const std::string& value) { out << YAML::DoubleQuoted << value; }
  void operator()(std::string* value) { text(*value); }
  void operator()(Texts* values) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const std::string& value : *values) text(value);
    out << YAML::EndSeq;
  }
  void operator()(Integers* values) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const int64_t value : *values) out << value;
    out << YAML::EndSeq;
  }
  void operator()(Numbers* values) {
    out << YAML::Flow << YAML::BeginSeq;
    for (double& value : *values) out << scalar_text(Field(&value));
    out << YAML::EndSeq;
  }
  void operator()(TextMap* values) {
    out << YAML::Flow << YAML::BeginMap;
    for (const auto& [ours, theirs] : *values) {
      out << YAML::Key;
      text(ours);
      out << YAML::Value;
      text(theirs);
    }
    out << YAML::EndMap;
  }
  // Numbers and names go out as plain words, digits as scalar_text chose them.
  template <typename Plain>
  void operator()(const Plain& value) {
    out << scalar_text(Field(value));
  }
};

/// Whether a field holds "", -1 or an empty list or map: nothing yet, or in a settled configuration nothing at all.
bool is_unset(const Field& field) {
  return std::visit(
      [](const auto& value) {
        using Value = std::remove_pointer_t<std::remove_cvref_t<decltype(value)>>;
        if constexpr (requires { value->empty(); }) return value->empty();
        if constexpr (std::is_signed_v<Value>) return *value < 0;
        return false;
      },
      field);
}

std::string to_yaml(Config config, bool with_unset) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  std::string_view section;
  for (const ConfigKey& key : keys()) {
    const Field field = key.field(config);
    if (!with_unset && is_unset(field)) continue;
    if (key.section != section) {
      if (!section.empty()) out << YAML::EndMap;
      section = key.section;
      out << YAML::Key << std::string(section) << YAML::Value << YAML::BeginMap;
    }
    out << YAML::Key << std::string(key.leaf()) << YAML::Value;
    std::visit(Emit{out}, field);
  }
  if (!section.empty()) out << YAML::EndMap;
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace

std::vector<std::string> read_yaml(const std::string& file, Config& config) {
  YamlReader reader(file, config);
  reader.read_file();
  return reader.take_problems();
}

std::string to_yaml(const Config& config) { return to_yaml(config, true); }
std::string to_yaml(const Settled& job) { return to_yaml(job.config, false); }

std::vector<std::pair<std::string, std::string>> key_values(const Config& config) {
  Config fields = config;  // keys hand out what could be written to
  std::vector<std::pair<std::string, std::string>> all;
  for (const ConfigKey& key : keys()) {
    YAML::Emitter out;
    std::visit(Emit{out}, key.field(fields));
    all.emplace_back(key.name, out.c_str());
  }
  return all;
}

}  // namespace fpdist::config
