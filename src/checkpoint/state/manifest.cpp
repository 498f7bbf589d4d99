#include "src/checkpoint/state/manifest.hpp"

#include <cstddef>
#include <nlohmann/json.hpp>
#include <set>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/state/state_files.hpp"
#include "src/core/checksum.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::checkpoint {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr int kMostRanks = 1 << 20;
constexpr size_t kMostProgram = 100;  // characters

std::string indented(const Json& json) { return json.dump(1) + "\n"; }

const nlohmann::json& member(const nlohmann::json& object, const char* name, const std::string& where) {
  check<ModelFileError>(object.is_object() && object.contains(name), where, ": lacks \"", name,
                        "\": it is damaged, go on from another checkpoint");
  return object[name];
}

std::string word(const nlohmann::json& object, const char* name, size_t most, const std::string& where) {
  const nlohmann::json& value = member(object, name, where);
  check<ModelFileError>(value.is_string() && value.get_ref<const std::string&>().size() <= most, where, ": its \"",
                        name, "\" is no text of at most ", most, " characters");
  return value.get<std::string>();
}

uint64_t number_of(const nlohmann::json& object, const char* name, uint64_t most, const std::string& where) {
  const nlohmann::json& value = member(object, name, where);
  check<ModelFileError>(value.is_number_unsigned() && value.get<uint64_t>() <= most, where, ": its \"", name,
                        "\" is no whole number up to ", most);
  return value.get<uint64_t>();
}

/// A newer format may say anything else in any other way.
void check_format(const nlohmann::json& root, const std::string& where) {
  const uint64_t format = number_of(root, "format", uint64_t{1} << 31, where);
  if (format == kFormat) return;
  check<ModelFileError>(format > kFormat, where, ": no program has written format ", format, ": it is damaged");
  const bool named = root.contains("program") && root["program"].is_string();
  const std::string program = named ? root["program"].get<std::string>().substr(0, kMostProgram) : "another program";
  throw NewerFormat(text(where, ": its format ", format, " is newer than this program's ", kFormat, ": use ", program,
                         ", which wrote it, or a later one"));
}

void check_files(const Manifest& manifest, const std::string& where) {
  std::set<std::string> names;
  for (const StateFile& file : manifest.files) {
    check<ModelFileError>(may_be_listed(file.name), where, ": \"", file.name, "\" is no file of a checkpoint");
    check<ModelFileError>(names.insert(file.name).second, where, ": ", file.name, " is listed twice");
  }
  size_t shards = 0;
  for (const std::string& name : names) shards += name.starts_with("shard-");
  for (int rank = 0; rank < manifest.ranks; ++rank)
    check<ModelFileError>(names.contains(shard_name(rank, manifest.ranks)), where, ": lacks ",
                          shard_name(rank, manifest.ranks));
  check<ModelFileError>(shards == static_cast<size_t>(manifest.ranks), where, ": lists ", shards, " shards of ",
                        manifest.ranks, " ranks");
  for (const char* name : {kStateFile, kConfigFile})
    check<ModelFileError>(names.contains(name), where, ": lacks ", name);
}

}  // namespace

std::string to_json(const Manifest& manifest) {
  Json root{{"format", kFormat}, {"program", manifest.program}, {"ranks", manifest.ranks}, {"files", Json::array()}};
  for (const StateFile& file : manifest.files)
    root["files"].push_back({{"name", file.name}, {"size", file.size}, {"xxh3_128", file.xxh3_128}});
  const std::string unsigned_text = indented(root);
  root["xxh3_128"] = to_string(Checksum().add(unsigned_text.data(), unsigned_text.size()).value());
  return indented(root);
}

Manifest parse_manifest(std::string_view json, const std::string& where) {
  const nlohmann::json root = files::parse_strict(json, where, 4);
  check_format(root, where);
  Manifest manifest{.program = word(root, "program", kMostProgram, where),
                    .ranks = static_cast<int>(number_of(root, "ranks", kMostRanks, where)),
                    .files = {}};
  check<ModelFileError>(manifest.ranks > 0, where, ": is of no ranks");
  const nlohmann::json& files = member(root, "files", where);
  check<ModelFileError>(files.is_array(), where, ": its \"files\" are no list");
  for (const nlohmann::json& file : files)
    manifest.files.push_back({.name = word(file, "name", 255, where),
                              .size = number_of(file, "size", uint64_t{1} << 62, where),
                              .xxh3_128 = word(file, "xxh3_128", 32, where)});
  check_files(manifest, where);
  check<ModelFileError>(to_json(manifest) == json, where,
                        ": has been changed or damaged since it was written: ", "go on from another checkpoint");
  return manifest;
}

}  // namespace fpdist::checkpoint
