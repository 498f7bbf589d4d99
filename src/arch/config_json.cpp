#include "src/arch/config_json.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/files/files.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::ordered_json;  // fields keep the order of the file

constexpr int kMostDepth = 32;

Json parse_object(const std::string& json, const std::string& where) {
  check<ModelFileError>(files::parse_strict(json, where, kMostDepth).is_object(), where, ": is no JSON object");
  return Json::parse(json);
}

}  // namespace

std::string config_json_path(const std::string& directory) { return directory + "/config.json"; }

std::string read_config_json(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  check<ModelFileError>(fs::is_directory(directory, ignored), directory, ": is not a directory", looked_in(directory),
                        "; model.path and model.ref_path want a local Hugging Face directory (config.json and weights; "
                        "nothing is downloaded)");
  const std::string path = config_json_path(directory);
  check<ModelFileError>(
      fs::exists(path, ignored), path, ": missing; ",
      fs::exists(directory + "/adapter_config.json", ignored)
          ? "this is an adapter: adapter.path goes on from it, fpdist_export --merge makes a model of it"
          : "every Hugging Face model directory has one");
  return files::read(path, files::kMaxJsonBytes);
}

std::string dtype_in(const std::string& json, const std::string& where) {
  const Json root = parse_object(json, where);
  for (const char* spelling : {"dtype", "torch_dtype"})
    if (root.contains(spelling) && root[spelling].is_string()) return root[spelling].get<std::string>();
  return "";
}

std::string with_dtype(const std::string& json, std::string_view dtype, const std::string& where) {
  Json root = parse_object(json, where);
  const bool has_old = root.contains("torch_dtype"), has_new = root.contains("dtype");
  if (has_old || (!has_new && !root.contains("rope_parameters"))) root["torch_dtype"] = dtype;
  if (has_new || !root.contains("torch_dtype")) root["dtype"] = dtype;
  return root.dump(2) + "\n";
}

}  // namespace fpdist::arch
