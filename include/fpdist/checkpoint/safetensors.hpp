#pragma once
// checkpoint: safetensors files. A file is hostile input: header size capped, offsets sorted without holes or overlap,
// sizes equal to dtype x shape with overflow checked, duplicate names refused.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace fpdist::checkpoint {

struct TensorInfo {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;     ///< bytes from the start of the data section
};

/// A memory-mapped .safetensors file.
class SafetensorsFile {
 public:
  /// Throws ModelFileError naming the file and what is wrong with it.
  explicit SafetensorsFile(const std::string& path);
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// A view of the mapping in the file's dtype: read only, valid while any returned tensor lives.
  at::Tensor tensor(const std::string& name) const;

 private:
  std::string path_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
  std::shared_ptr<void> mapping_;
  const char* data_ = nullptr;
};

/// Writes `path` through a temporary file, fsync and rename, metadata format: pt. Throws DiskError; leaves nothing behind.
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace fpdist::checkpoint
