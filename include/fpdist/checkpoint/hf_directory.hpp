#pragma once
// checkpoint: Hugging Face directories, in and out.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"

namespace fpdist::arch {
struct Model;
}

namespace fpdist::checkpoint {

/// Indices [begin, begin + size) of dim `dim` of a tensor; dim -1: all of it.
struct TensorPart {
  std::string name;
  int64_t dim = -1, begin = 0, size = 0;
};

/// config.json plus model.safetensors, or the shards that model.safetensors.index.json names. Tensors go by the names
/// of a causal language model, `model.` first; as with Transformers a file may lack that prefix, or have it once more.
class HfDirectory {
 public:
  /// Throws ModelFileError naming what is missing or does not fit together.
  explicit HfDirectory(const std::string& path);
  /// An adapter's: adapter_config.json and adapter_model.safetensors as PEFT writes them, whose tensors' names begin
  /// with "base_model.model.".
  static HfDirectory of_adapter(const std::string& path);
  const std::string& config_json() const { return config_json_; }
  const std::string& config_path() const { return config_path_; }
  bool contains(const std::string& name) const { return stored_name(name).has_value(); }
  /// The files' name of a tensor that it contains.
  std::string spelling(const std::string& name) const { return stored_name(name).value(); }
  /// Of a tensor that it contains.
  const std::vector<int64_t>& shape(const std::string& name) const;
  /// As the files spell them.
  std::vector<std::string> names() const;
  /// Those of them that stand for none of `wanted`.
  std::vector<std::string> names_besides(const std::vector<std::string>& wanted) const;
  /// Whether two tensors that it contains are equal in shape, dtype and every value.
  bool are_equal(const std::string& one, const std::string& other) const;
  /// Copies tensor `name` into `destination`, cast to its dtype (no gradient is recorded). Throws ModelFileError when
  /// it is absent, of another shape, or holds integers where floats are wanted.
  void read_into(const std::string& name, at::Tensor& destination) const;
  /// The same for a slice: `destination` is indices [begin, begin + destination.size(dim)) of dim `dim` of a tensor of
  /// `full_shape`; no other elements are read. dim -1: the whole tensor. Throws ShapeError too for a slice that does
  /// not lie in `full_shape`.
  void read_slice_into(const std::string& name, at::IntArrayRef full_shape, int64_t dim, int64_t begin,
                       at::Tensor& destination) const;
  /// The whole tensor as the file has it, and as its mapping lies: read only.
  at::Tensor tensor(const std::string& name) const;
  /// All that the three have read so far, in order, by the names that the files have.
  const std::vector<TensorPart>& parts_read() const { return parts_read_; }
  const std::string& path() const { return path_; }
  /// The file of a tensor as names() spells it. Throws ModelFileError when there is no such tensor.
  const SafetensorsFile& file_with(const std::string& name) const;

 private:
  HfDirectory(std::string path, std::string config_path, std::string config_json);
  void add_file(const std::string& path);
  std::optional<std::string> stored_name(const std::string& name) const;
  std::string path_, config_path_, config_json_;
  std::map<std::string, std::shared_ptr<SafetensorsFile>> file_of_;
  mutable std::vector<TensorPart> parts_read_;  // a record, which changes nothing that a reader sees
};

/// Whether the embedding serves as the head, as Transformers 5 decides it: where config.json ties them, and not where
/// the weights hold both with other values.
bool ties_embedding(const HfDirectory& directory, const arch::Model& model);

struct ExportOptions {
  std::string config_json;
  /// An adapter's adapter_config.json; it and adapter_model.safetensors take the place of config.json and
  /// model.safetensors, as HfDirectory::of_adapter reads them.
  std::string adapter_json = {};
  /// Directory whose tokenizer and generation files are copied byte for byte ("" for none).
  std::string copy_from = {};
  int64_t max_shard_bytes = int64_t{5} << 30;
};

/// Not collective: one rank calls it. Writes an HF directory that from_pretrained loads: config.json, tokenizer files,
/// model.safetensors or shards with an index. Everything is written to `path`.tmp first (`path`.1.tmp, ... where
/// something else is called so): a new directory appears whole, an existing one has its files replaced one by one
/// (other files in it stay, older weights go). Throws DiskError and then leaves nothing of the new export behind;
/// ModelFileError when a file of copy_from cannot be read.
/// Tensors are asked for one by one, every index of `specs` once in ascending order, and written at once, so that only
/// one is in memory; `fetch` may be collective with ranks that walk the same list. What it throws comes through, and
/// nothing of the export is left. ShapeError for a tensor that is not as its spec says, a name given twice or a dtype
/// that safetensors has not.
void export_hf_directory(const std::string& path, std::span<const TensorSpec> specs, const FetchTensor& fetch,
                         const ExportOptions& options);

/// The same for tensors that are all in memory.
void export_hf_directory(const std::string& path, const NamedTensors& tensors, const ExportOptions& options);

/// Files that stay.
using KeepFile = std::function<bool(const std::string& file)>;

/// Removes from the directory `path`, and from `path`.tmp, which a killed export leaves, every file that an export
/// writes, less those that `keeps`, and both where nothing else is in them. Throws DiskError.
void remove_hf_export(const std::string& path, const KeepFile& keeps = {});

}  // namespace fpdist::checkpoint
