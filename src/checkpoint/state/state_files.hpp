#pragma once
// checkpoint (private): the names of a training state's files, and where it is built.

#include <string>

#include "src/checkpoint/state/manifest.hpp"

namespace fpdist::checkpoint {

inline constexpr const char* kManifestFile = "manifest.json";
inline constexpr const char* kStateFile = "state.json";
inline constexpr const char* kConfigFile = "config.json";
inline constexpr const char* kSettingsFile = "config.resolved.yaml";

/// "shard-00003-of-00008.safetensors".
std::string shard_name(int rank, int ranks);

/// Whether a checkpoint has files of this name, whole or while they are written.
bool is_of_state(const std::string& name);

/// The same for files that its manifest may name.
bool may_be_listed(const std::string& name);

/// A checkpoint's folder and its other names.
struct StateFolder {
  explicit StateFolder(const std::string& directory);
  std::string directory;  ///< without slashes at its end
  std::string staging;    ///< where it is built
  std::string replaced;   ///< the older one, for the moment of its replacement, where the file system needs one
};

/// Reads the manifest and holds the files' sizes against it. Throws ModelFileError.
Manifest open_manifest(const std::string& directory);

/// The bytes of one of its files, which is read and held against it. Throws ModelFileError.
std::string read_listed(const std::string& directory, const StateFile& file);

/// The same without keeping them.
void verify_listed(const std::string& directory, const StateFile& file);

/// Removes the files of a checkpoint in `folder`, the manifest first, and the folder where nothing else is in it;
/// nothing where there is no such folder. Throws DiskError.
void remove_state_files(const std::string& folder);

}  // namespace fpdist::checkpoint
