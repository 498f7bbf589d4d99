#pragma once
// checkpoint: safetensors files. A file is hostile input: header size capped, offsets sorted without holes or overlap,
// sizes equal to dtype x shape with overflow checked, duplicate names refused.
// Layout: 8 bytes little-endian header length, header (JSON, name -> dtype, shape, data_offsets), data.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace fpdist::checkpoint {

struct TensorInfo {
  at::ScalarType dtype;  ///< kBool is read as uint8
  std::vector<int64_t> shape;
  uint64_t begin, end;  ///< bytes from the start of the data section
};

/// Tensors in the order of an export: name and value.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// What a file says of a tensor before its value is there.
struct TensorSpec {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
};

/// Value of specs[index]; asked for once for every index, in ascending order, and let go before the next is asked for.
using FetchTensor = std::function<at::Tensor(size_t index)>;

/// A memory-mapped .safetensors file. Whoever shortens the file while it is open kills the process (SIGBUS), as with
/// any mapping; replacing it by rename is safe.
class SafetensorsFile {
 public:
  /// Throws ModelFileError naming the file and what is wrong with it.
  explicit SafetensorsFile(const std::string& path);
  const std::string& path() const { return path_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The tensor in the file's dtype, on the CPU: a view of the mapping (read only, valid while any returned tensor
  /// lives), or a copy where the file does not align it. Throws ModelFileError for an unknown name.
  at::Tensor tensor(const std::string& name) const;
  /// The same for indices [begin, begin + size) of `dim` alone: what the file does not align is copied in that part
  /// only. Throws ShapeError for indices that the tensor has not.
  at::Tensor slice(const std::string& name, int64_t dim, int64_t begin, int64_t size) const;
  /// The bytes of these indices as the file holds them, in order: visit(begin, count) for each run of them. Throws as
  /// slice does.
  void visit_bytes(const std::string& name, int64_t dim, int64_t begin, int64_t size,
                   const std::function<void(const char*, size_t)>& visit) const;
  /// Device, inode, size and times of the file that is mapped: processes of one machine for which they are equal have
  /// the same file.
  const std::string& identity() const { return identity_; }

 private:
  const TensorInfo& info_of(const std::string& name) const;
  void check_slice(const std::string& name, const TensorInfo& info, int64_t dim, int64_t begin, int64_t size) const;
  at::Tensor view(const TensorInfo& info) const;
  bool is_aligned(const TensorInfo& info) const;

  std::string path_, identity_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
  std::shared_ptr<const char> mapping_;
  const char* data_ = nullptr;
};

/// Writes `path` through a temporary file, fsync and rename, metadata format: pt; every tensor is aligned to its
/// element. Any dense dtype that safetensors knows, any device, any strides. Throws DiskError (leaving nothing behind
/// and an older `path` as it was), ShapeError for a dtype it cannot hold or a name given twice.
void write_safetensors(const std::string& path, const NamedTensors& tensors);

/// The same with one tensor in memory at a time. Throws ShapeError too when a fetched tensor is not as its spec says;
/// what `fetch` throws leaves nothing behind either.
void write_safetensors(const std::string& path, std::span<const TensorSpec> specs, const FetchTensor& fetch);

}  // namespace fpdist::checkpoint
