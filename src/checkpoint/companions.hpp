#pragma once
// checkpoint: the files of a Hugging Face directory that are neither config.json nor weights and belong to the model:
// the tokenizer's, its chat templates' and the generation's. An export takes them along. Files are named by their place
// in the directory: "tokenizer.json", "additional_chat_templates/rag.jinja".

#include <string>
#include <vector>

namespace fpdist::checkpoint {

/// Files in `directory` and among its named templates, sorted; none where there is no such folder.
std::vector<std::string> files_of_model(const std::string& directory);

/// Removes the folder of named templates and then `directory`, each where nothing is in it; a link to a folder is
/// somebody's own. True where the directory has gone. Throws DiskError.
bool remove_empty_model(const std::string& directory);

/// Whether a file of this name is one.
bool is_companion(const std::string& name);

/// Those in `directory`, sorted. Throws ModelFileError when it cannot be listed.
std::vector<std::string> companion_names(const std::string& directory);

/// The whole of one. Throws ModelFileError when it cannot be read.
std::string read_companion(const std::string& directory, const std::string& name);

/// Writes one, and its folder where that is missing. Throws DiskError.
void write_companion(const std::string& directory, const std::string& name, const std::string& bytes);

}  // namespace fpdist::checkpoint
