#pragma once
// arch: the config.json of a Hugging Face directory, for those who need no weights. No torch.

#include <string>

namespace fpdist::arch {

std::string config_json_path(const std::string& directory);

/// Its text. Throws ModelFileError when the directory or the file is missing, cannot be read or is too large.
std::string read_config_json(const std::string& directory);

}  // namespace fpdist::arch
