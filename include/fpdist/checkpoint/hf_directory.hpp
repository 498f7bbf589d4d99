#pragma once
// checkpoint: Hugging Face directories, in and out.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"

namespace fpdist::checkpoint {

/// Indices [begin, begin + size) of dim `dim` of a tensor; dim -1: all of it.
struct TensorPart {
  std::string name;
  int64_t dim = -1, begin = 0, size = 0;
};

/// config.json plus model.safetensors, or the shards that model.safetensors.index.json names.
class HfDirectory {
 public:
  /// Throws ModelFileError naming what is missing or does not fit together.
  explicit HfDirectory(const std::string& path);
  const std::string& config_json() const { return config_json_; }
  std::string config_path() const;
  bool contains(const std::string& name) const { return file_of_.count(name) != 0; }
  std::vector<std::string> names() const;
  /// Copies tensor `name` into `destination`, cast to its dtype (no gradient is recorded). Throws ModelFileError when
  /// it is absent, of another shape, or holds integers where floats are wanted.
  void read_into(const std::string& name, at::Tensor& destination) const;
  /// The same for a slice: `destination` is indices [begin, begin + destination.size(dim)) of dim `dim` of a tensor of
  /// `full_shape`; no other elements are read. dim -1: the whole tensor. Throws ShapeError too for a slice that does
  /// not lie in `full_shape`.
  void read_slice_into(const std::string& name, at::IntArrayRef full_shape, int64_t dim, int64_t begin,
                       at::Tensor& destination) const;
  /// All that the two have copied so far, in order.
  const std::vector<TensorPart>& parts_read() const { return parts_read_; }
  const std::string& path() const { return path_; }
  /// Throws ModelFileError when there is no such tensor.
  const SafetensorsFile& file_with(const std::string& name) const;

 private:
  std::string path_, config_json_;
  std::map<std::string, std::shared_ptr<SafetensorsFile>> file_of_;
  mutable std::vector<TensorPart> parts_read_;  // a record, which changes nothing that a reader sees
};

struct ExportOptions {
  std::string config_json;
  /// Directory whose tokenizer and generation files are copied byte for byte ("" for none).
  std::string copy_from = {};
  int64_t max_shard_bytes = int64_t{5} << 30;
};

/// Not collective: one rank calls it. Writes an HF directory that from_pretrained loads: config.json, tokenizer files,
/// model.safetensors or shards with an index. Everything is written to `path`.tmp first: a new directory appears whole,
/// an existing one has its files replaced one by one (other files in it stay, older weights go). Throws DiskError and
/// then leaves nothing of the new export behind; ModelFileError when a file of copy_from cannot be read.
/// Tensors are asked for one by one, every index of `specs` once in ascending order, and written at once, so that only
/// one is in memory; `fetch` may be collective with ranks that walk the same list. What it throws comes through, and
/// nothing of the export is left. ShapeError for a tensor that is not as its spec says, a name given twice or a dtype
/// that safetensors has not.
void export_hf_directory(const std::string& path, std::span<const TensorSpec> specs, const FetchTensor& fetch,
                         const ExportOptions& options);

/// The same for tensors that are all in memory.
void export_hf_directory(const std::string& path, const NamedTensors& tensors, const ExportOptions& options);

/// Removes from the directory `path` every file that an export writes, `path` itself where nothing else is in it, and
/// `path`.tmp, which a killed export leaves. Throws DiskError.
void remove_hf_export(const std::string& path);

}  // namespace fpdist::checkpoint
