#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/ScalarType.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "files.hpp"
#include "fpdist/checkpoint/safetensors.hpp"
#include "fpdist/core/error.hpp"
#include "safetensors_header.hpp"

namespace fpdist::checkpoint {
namespace {

struct Mapping {
  std::shared_ptr<const char> bytes;
  uint64_t size;
};

Mapping map_file(const std::string& path) {
  const FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check<ModelFileError>(file.open(), path, ": cannot be opened: ", std::strerror(errno));
  struct stat status {};
  check<ModelFileError>(::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode), path, ": is not a file");
  const auto size = static_cast<uint64_t>(status.st_size);
  check<ModelFileError>(size >= 8, path, ": ", size, " bytes are no safetensors file: fetch it again");
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  check<ModelFileError>(address != MAP_FAILED, path, ": cannot be mapped: ", std::strerror(errno));
  const auto unmap = [size](const char* begin) { ::munmap(const_cast<char*>(begin), size); };
  return {{static_cast<const char*>(address), unmap}, size};
}

uint64_t header_length(const char* bytes) {
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  return length;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  const Mapping mapping = map_file(path);
  const uint64_t length = header_length(mapping.bytes.get());
  check<ModelFileError>(length <= kMaxHeaderBytes, path, ": a header of ", length, " bytes is over the format's ",
                        kMaxHeaderBytes, ": not a safetensors file");
  check<ModelFileError>(length <= mapping.size - 8, path, ": the header needs ", length, " bytes, the file has ",
                        mapping.size - 8, " left: it is cut short, fetch it again");
  const std::string_view json(mapping.bytes.get() + 8, length);
  check<ModelFileError>(!json.empty() && json.front() == '{', path, ": the header does not start with {");
  Header header = parse_header(json, mapping.size - 8 - length, path);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  mapping_ = mapping.bytes;
  data_ = mapping.bytes.get() + 8 + length;
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  check<ModelFileError>(found != tensors_.end(), path_, ": holds no tensor \"", name, "\"");
  const TensorInfo& info = found->second;
  const char* source = data_ + info.begin;
  const at::TensorOptions options(info.dtype);
  if (reinterpret_cast<uintptr_t>(source) % c10::elementSize(info.dtype) != 0) {
    at::Tensor copy = at::empty(info.shape, options);
    if (info.end > info.begin) std::memcpy(copy.mutable_data_ptr(), source, info.end - info.begin);
    return copy;
  }
  return at::from_blob(
      const_cast<char*>(source), info.shape, [mapping = mapping_](void*) {}, options);
}

}  // namespace fpdist::checkpoint
