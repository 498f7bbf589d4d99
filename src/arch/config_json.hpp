#pragma once
// arch: the config.json of a Hugging Face directory, for those who need no weights. No torch.

#include <string>
#include <string_view>

namespace fpdist::arch {

/// Folder in a model's directory with the chat templates that have names, NAME.jinja.
inline constexpr const char* kNamedTemplates = "additional_chat_templates";

std::string config_json_path(const std::string& directory);

/// Its text. Throws ModelFileError when the directory or the file is missing, cannot be read or is too large.
std::string read_config_json(const std::string& directory);

/// The dtype that a config.json's text names, in the new spelling or the old one; "" where it names none. Throws
/// ModelFileError, starting with `where`, for text that is no JSON object.
std::string dtype_in(const std::string& json, const std::string& where);

/// The text with this dtype, in every spelling that is there: Transformers reads `dtype` first, older ones know
/// `torch_dtype` alone. Everything else and its order stay. Throws as dtype_in does.
std::string with_dtype(const std::string& json, std::string_view dtype, const std::string& where);

}  // namespace fpdist::arch
