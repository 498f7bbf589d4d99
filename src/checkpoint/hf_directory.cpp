#include "fpdist/checkpoint/hf_directory.hpp"

#include <ATen/core/grad_mode.h>
#include <c10/core/ScalarType.h>

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/arch/config_json.hpp"
#include "src/files/files.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// name -> file name of every weight. Shard names must be plain: an index may not point out of its directory.
std::map<std::string, std::string> parse_index(const std::string& path) {
  const nlohmann::json index = files::parse_strict(files::read(path, files::kMaxJsonBytes), path, 8);
  check<ModelFileError>(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(), path,
                        ": has no \"weight_map\" object");
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : index["weight_map"].items()) {
    check<ModelFileError>(file.is_string(), path, ": the file of \"", name, "\" is not a string");
    const auto& shard = file.get_ref<const std::string&>();
    const bool plain = !shard.empty() && shard.find('/') == std::string::npos &&
                       shard.find('\0') == std::string::npos && shard != "." && shard != "..";
    check<ModelFileError>(plain, path, ": the file of \"", name, "\" is not a plain file name: \"", shard, "\"");
    files[name] = shard;
  }
  check<ModelFileError>(!files.empty(), path, ": \"weight_map\" is empty");
  return files;
}

std::string shape_text(at::IntArrayRef shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

}  // namespace

HfDirectory::HfDirectory(const std::string& path) : path_(path), config_json_(arch::read_config_json(path)) {
  const std::string single = path + "/model.safetensors", index = single + ".index.json";
  if (exists(single)) {
    auto file = std::make_shared<SafetensorsFile>(single);
    for (const auto& [name, info] : file->tensors()) file_of_[name] = file;
    return;
  }
  if (!exists(index)) {
    const bool pickled = exists(path + "/pytorch_model.bin") || exists(path + "/pytorch_model.bin.index.json");
    throw ModelFileError(text(
        path, ": has neither model.safetensors nor model.safetensors.index.json; ",
        pickled ? "its pytorch_model.bin is not read: save it again with save_pretrained" : "copy the weights there"));
  }
  std::map<std::string, std::shared_ptr<SafetensorsFile>> shards;
  for (const auto& [name, shard] : parse_index(index)) {
    auto& file = shards[shard];
    check<ModelFileError>(file || exists(path + "/" + shard), path, "/", shard, ": missing, but ", index, " names it; ",
                          "fetch the shard");
    if (!file) file = std::make_shared<SafetensorsFile>(path + "/" + shard);
    check<ModelFileError>(file->tensors().count(name) != 0, file->path(), ": holds no \"", name, "\", but ", index,
                          " says so: shards and index are of different exports");
    file_of_[name] = file;
  }
}

std::string HfDirectory::config_path() const { return arch::config_json_path(path_); }

std::vector<std::string> HfDirectory::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

const SafetensorsFile& HfDirectory::file_with(const std::string& name) const {
  const auto found = file_of_.find(name);
  check<ModelFileError>(found != file_of_.end(), path_, ": its weights hold no \"", name, "\"");
  return *found->second;
}

void HfDirectory::read_into(const std::string& name, at::Tensor& destination) const {
  read_slice_into(name, destination.sizes(), -1, 0, destination);
}

void HfDirectory::read_slice_into(const std::string& name, at::IntArrayRef full_shape, int64_t dim, int64_t begin,
                                  at::Tensor& destination) const {
  std::vector<int64_t> wanted = full_shape.vec();
  if (dim >= 0 && dim < static_cast<int64_t>(wanted.size()) && dim < destination.dim())
    wanted[static_cast<size_t>(dim)] = destination.size(dim);
  check(dim < static_cast<int64_t>(wanted.size()) && destination.sizes() == wanted, "a slice ",
        shape_text(destination.sizes()), " along dim ", dim, " does not lie in \"", name, "\" ",
        shape_text(full_shape));
  const SafetensorsFile& file = file_with(name);
  const TensorInfo& info = file.tensors().at(name);
  const std::string place = text(file.path(), ": tensor \"", name, "\"");
  check<ModelFileError>(info.shape == full_shape, place, " has shape ", shape_text(info.shape),
                        ", config.json asks for ", shape_text(full_shape));
  const bool floats = at::isFloatingType(info.dtype) || !at::isFloatingType(destination.scalar_type());
  check<ModelFileError>(floats, place, " holds ", c10::toString(info.dtype),
                        ": quantised weights cannot be trained, use the unquantised model");
  const at::NoGradGuard no_grad;
  destination.copy_(dim < 0 ? file.tensor(name) : file.slice(name, dim, begin, destination.size(dim)));
  parts_read_.push_back(
      {.name = name, .dim = dim, .begin = dim < 0 ? 0 : begin, .size = dim < 0 ? 0 : destination.size(dim)});
}

}  // namespace fpdist::checkpoint
