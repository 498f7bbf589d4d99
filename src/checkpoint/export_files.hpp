#pragma once
// checkpoint: which files an export writes, replaces or removes.

#include <filesystem>
#include <string>
#include <vector>

namespace fpdist::checkpoint {

/// An adapter's weights, and what PEFT puts ahead of the names in them.
inline constexpr const char *kAdapterWeights = "adapter_model.safetensors", *kAdapterPrefix = "base_model.model.";

/// Weights of an export, which a loader might take for a later one's.
bool is_weights(const std::string& name);

/// What a file of this name is called once it is whole: without the .tmp or .1.tmp of one that is being written.
std::string whole_name(const std::string& name);

/// The file of a model's or an adapter's configuration, which says what else is in the folder.
bool is_configuration(const std::string& name);

/// Whether an export writes files of this name: config.json, weights, an adapter's two files, tokenizer and generation
/// files, and what they are called while they are written.
bool is_of_export(const std::string& name);

/// Those in `directory`; none where there is no such folder.
std::vector<std::string> export_files_in(const std::filesystem::path& directory);

/// Where exports to `directory` are built: `directory`.tmp, `directory`.1.tmp, ..., as far as they are there.
std::vector<std::filesystem::path> staging_folders_of(const std::filesystem::path& directory);

/// All that an export to `directory` writes over or removes: its files there, and where it is built.
std::vector<std::string> files_in_the_way(const std::filesystem::path& directory);

/// A path without slashes at its end: "out/" would be built in "out/.tmp".
std::filesystem::path without_slash(std::string directory);

}  // namespace fpdist::checkpoint
