#pragma once
// checkpoint: the files of a Hugging Face directory that are neither config.json nor weights and belong to the model:
// the tokenizer's and the generation's. An export takes them along.

#include <string>
#include <vector>

namespace fpdist::checkpoint {

/// Whether a file of this name is one.
bool is_companion(const std::string& name);

/// Those in `directory`, sorted. Throws ModelFileError when it cannot be listed.
std::vector<std::string> companion_names(const std::string& directory);

/// The whole of one. Throws ModelFileError when it cannot be read.
std::string read_companion(const std::string& directory, const std::string& name);

}  // namespace fpdist::checkpoint
