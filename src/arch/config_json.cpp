#include "src/arch/config_json.hpp"

#include <filesystem>
#include <system_error>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"

namespace fpdist::arch {

std::string config_json_path(const std::string& directory) { return directory + "/config.json"; }

std::string read_config_json(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  check<ModelFileError>(fs::is_directory(directory, ignored), directory,
                        ": is not a directory; model.path wants a local Hugging Face directory (config.json and "
                        "weights; nothing is downloaded)");
  const std::string path = config_json_path(directory);
  check<ModelFileError>(fs::exists(path, ignored), path, ": missing; every Hugging Face model directory has one");
  return files::read(path, files::kMaxJsonBytes);
}

}  // namespace fpdist::arch
