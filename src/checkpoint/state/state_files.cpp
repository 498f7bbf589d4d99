#include "src/checkpoint/state/state_files.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <regex>
#include <system_error>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/core/checksum.hpp"
#include "src/core/words.hpp"
#include "src/files/files.hpp"
#include "src/files/folders.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostText = size_t{1} << 28;  // bytes of a file that is read whole

std::string path_of(const std::string& directory, const StateFile& file) { return directory + "/" + file.name; }

/// Files of a checkpoint in `folder`, the manifest first, then by name.
std::vector<std::string> state_files_in(const std::string& folder) {
  std::vector<std::string> found = files_of_model(folder);
  std::erase_if(found, [](const std::string& name) { return !is_of_state(name); });
  std::stable_partition(found.begin(), found.end(), [](const std::string& name) { return name == kManifestFile; });
  return found;
}

}  // namespace

std::string shard_name(int rank, int ranks) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05d-of-%05d.safetensors", rank, ranks);
  return name;
}

bool may_be_listed(const std::string& name) {
  static const std::regex shard(R"(shard-\d{5,7}-of-\d{5,7}\.safetensors)");
  if (name.find('\0') != std::string::npos) return false;
  return name == kStateFile || name == kConfigFile || name == kSettingsFile || is_companion(name) ||
         std::regex_match(name, shard);
}

bool is_of_state(const std::string& name) {
  const std::string whole = whole_name(name);
  return whole == kManifestFile || may_be_listed(whole);
}

StateFolder::StateFolder(const std::string& path)
    : directory(without_slash(path).string()), staging(directory + ".tmp"), replaced(directory + ".replaced") {}

Manifest open_manifest(const std::string& directory) {
  const std::string path = directory + "/" + kManifestFile;
  std::error_code error;
  check<ModelFileError>(fs::exists(directory, error), directory, ": there is no such folder", looked_in(directory));
  check<ModelFileError>(fs::exists(path, error), directory,
                        ": is no checkpoint to go on from: it has no manifest.json, which is written last");
  Manifest manifest = parse_manifest(files::read(path, files::kMaxJsonBytes), path);
  for (const StateFile& file : manifest.files) {
    const uint64_t size = fs::file_size(path_of(directory, file), error);
    check<ModelFileError>(!error, path_of(directory, file), ": ", error.message(), ", but ", path, " names it");
    check<ModelFileError>(size == file.size, path_of(directory, file), ": has ", size, " bytes, ", path, " says ",
                          file.size);
  }
  return manifest;
}

void verify_listed(const std::string& directory, const StateFile& file) {
  Checksum sum;
  files::read_chunks(path_of(directory, file), [&](std::string_view chunk) { sum.add(chunk.data(), chunk.size()); });
  check<ModelFileError>(to_string(sum.value()) == file.xxh3_128, path_of(directory, file),
                        ": is not as it was written: its XXH3-128 is ", to_string(sum.value()), ", manifest.json says ",
                        file.xxh3_128, ": go on from another checkpoint");
}

std::string read_listed(const std::string& directory, const StateFile& file) {
  std::string bytes = files::read(path_of(directory, file), kMostText);
  check<ModelFileError>(
      to_string(Checksum().add(bytes.data(), bytes.size()).value()) == file.xxh3_128, path_of(directory, file),
      ": is not as it was written: manifest.json has another XXH3-128: ", "go on from another checkpoint");
  return bytes;
}

void remove_state_files(const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(folder, error))) return;  // a link is somebody's own
  for (const std::string& name : state_files_in(folder)) {
    files::remove(folder + "/" + name);
    if (name == kManifestFile) files::sync_directory(folder);
  }
  if (!remove_empty_model(folder)) return;
  const std::string parent = fs::path(folder).parent_path().string();
  files::sync_directory(parent.empty() ? "." : parent);
}

}  // namespace fpdist::checkpoint
