#pragma once
// checkpoint (private): manifest.json, which makes a folder a checkpoint. It is held against itself to the byte: who
// reads it writes it again, and any other byte is damage.

#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/state/training_state.hpp"

namespace fpdist::checkpoint {

/// What a newer program has written: nothing is wrong with it.
class NewerFormat : public ModelFileError {
  using ModelFileError::ModelFileError;
};

struct Manifest {
  std::string program;  ///< that wrote it, with its version
  int ranks = 0;
  std::vector<StateFile> files;  ///< all but the manifest: the shards of the ranks, then the others
};

std::string to_json(const Manifest& manifest);

/// Throws NewerFormat and ModelFileError, starting with `where`: damaged, files that no checkpoint has or that are
/// listed twice, shards or texts that are missing.
Manifest parse_manifest(std::string_view json, const std::string& where);

}  // namespace fpdist::checkpoint
