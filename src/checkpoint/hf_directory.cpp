#include "fpdist/checkpoint/hf_directory.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"
#include "src/arch/config_json.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/checkpoint/prefix_file.hpp"
#include "src/files/files.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// What to do about a directory without weights that can be read.
std::string cure_for(const std::string& path) {
  if (exists(path + "/pytorch_model.bin") || exists(path + "/pytorch_model.bin.index.json"))
    return "its pytorch_model.bin is not read: save it again with save_pretrained";
  if (exists(path + "/manifest.json"))
    return text("it is a checkpoint to go on from: fpdist_export ", path, " MODEL makes a model of it");
  return "copy the weights there";
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

constexpr int64_t kRowsAtOnce = 1024;
constexpr std::string_view kPrefix = "model.";

/// A name as files may have it, the likeliest first.
std::vector<std::string> spellings(const std::string& name) {
  std::vector<std::string> all{name};
  if (name.starts_with(kPrefix)) all.push_back(name.substr(kPrefix.size()));
  all.push_back(std::string(kPrefix) + name);
  all.push_back(kAdapterPrefix + name);
  all.push_back(kPromptPrefix + name);
  return all;
}

std::string shape_text(at::IntArrayRef shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

}  // namespace

HfDirectory::HfDirectory(std::string path, std::string config_path, std::string config_json)
    : path_(std::move(path)), config_path_(std::move(config_path)), config_json_(std::move(config_json)) {}

void HfDirectory::add_file(const std::string& path) {
  auto file = std::make_shared<SafetensorsFile>(path);
  for (const auto& [name, info] : file->tensors()) file_of_[name] = file;
}

HfDirectory HfDirectory::of_adapter(const std::string& path) {
  HfDirectory adapter(path, arch::adapter_config_path(path), arch::read_adapter_config(path));
  const std::string weights = path + "/" + kAdapterWeights;
  check<ModelFileError>(exists(weights), path, ": has no adapter_model.safetensors; ",
                        exists(path + "/adapter_model.bin")
                            ? "its adapter_model.bin is not read: save it again with save_pretrained"
                            : "copy the weights there");
  adapter.add_file(weights);
  return adapter;
}

HfDirectory::HfDirectory(const std::string& path)
    : HfDirectory(path, arch::config_json_path(path), arch::read_config_json(path)) {
  const std::string single = path + "/model.safetensors", index = single + ".index.json";
  if (exists(single)) {
    add_file(single);
    return;
  }
  if (!exists(index)) {
    throw ModelFileError(
        text(path, ": has neither model.safetensors nor model.safetensors.index.json; ", cure_for(path)));
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

std::optional<std::string> HfDirectory::stored_name(const std::string& name) const {
  for (const std::string& spelling : spellings(name))
    if (file_of_.contains(spelling)) return spelling;
  return std::nullopt;
}

const std::vector<int64_t>& HfDirectory::shape(const std::string& name) const {
  const std::string stored = spelling(name);
  return file_with(stored).tensors().at(stored).shape;
}

std::vector<std::string> HfDirectory::names_besides(const std::vector<std::string>& wanted) const {
  std::set<std::string> stored;
  for (const std::string& name : wanted)
    if (const auto found = stored_name(name)) stored.insert(*found);
  std::vector<std::string> others;
  for (const auto& [name, file] : file_of_)
    if (!stored.contains(name)) others.push_back(name);
  return others;
}

bool HfDirectory::are_equal(const std::string& one, const std::string& other) const {
  const auto stored = [&](const std::string& name) {
    const std::string found = stored_name(name).value();
    return file_with(found).tensor(found);
  };
  const at::Tensor a = stored(one), b = stored(other);
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  // Row after row of large tensors: what differs is over at once.
  for (int64_t row = 0; row < (a.dim() == 0 ? 1 : a.size(0)); row += kRowsAtOnce) {
    const auto part = [&](const at::Tensor& whole) {
      return whole.dim() == 0 ? whole : whole.narrow(0, row, std::min(kRowsAtOnce, whole.size(0) - row));
    };
    if (!at::equal(part(a), part(b))) return false;
  }
  return true;
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
  const std::optional<std::string> stored = stored_name(name);
  check<ModelFileError>(stored.has_value(), path_, ": its weights hold no \"", name, "\"");
  const SafetensorsFile& file = file_with(*stored);
  const TensorInfo& info = file.tensors().at(*stored);
  const std::string place = text(file.path(), ": tensor \"", *stored, "\"");
  check<ModelFileError>(info.shape == full_shape, place, " has shape ", shape_text(info.shape),
                        ", config.json asks for ", shape_text(full_shape));
  const bool floats = at::isFloatingType(info.dtype) || !at::isFloatingType(destination.scalar_type());
  check<ModelFileError>(floats, place, " holds ", c10::toString(info.dtype),
                        ": quantised weights that config.json says nothing of; use the unquantised model");
  const at::NoGradGuard no_grad;
  destination.copy_(dim < 0 ? file.tensor(*stored) : file.slice(*stored, dim, begin, destination.size(dim)));
  parts_read_.push_back(
      {.name = *stored, .dim = dim, .begin = dim < 0 ? 0 : begin, .size = dim < 0 ? 0 : destination.size(dim)});
}

at::Tensor HfDirectory::tensor(const std::string& name) const {
  const std::optional<std::string> stored = stored_name(name);
  check<ModelFileError>(stored.has_value(), path_, ": its weights hold no \"", name, "\"");
  parts_read_.push_back({.name = *stored});
  return file_with(*stored).tensor(*stored);
}

bool ties_embedding(const HfDirectory& directory, const arch::Model& model) {
  if (!model.tie_word_embeddings) return false;
  const bool has_both = directory.contains(arch::kEmbeddingWeight) && directory.contains(arch::kHeadWeight);
  return !has_both || directory.are_equal(arch::kEmbeddingWeight, arch::kHeadWeight);
}

}  // namespace fpdist::checkpoint
