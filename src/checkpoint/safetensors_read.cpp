#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/ScalarType.h>
#include <c10/util/accumulate.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/safetensors_header.hpp"
#include "src/files/files.hpp"

namespace fpdist::checkpoint {
namespace {

struct Mapping {
  std::shared_ptr<const char> bytes;
  uint64_t size;
};

Mapping map_file(const std::string& path) {
  const files::FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
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

const TensorInfo& SafetensorsFile::info_of(const std::string& name) const {
  const auto found = tensors_.find(name);
  check<ModelFileError>(found != tensors_.end(), path_, ": holds no tensor \"", name, "\"");
  return found->second;
}

bool SafetensorsFile::is_aligned(const TensorInfo& info) const {
  return reinterpret_cast<uintptr_t>(data_ + info.begin) % c10::elementSize(info.dtype) == 0;
}

at::Tensor SafetensorsFile::view(const TensorInfo& info) const {
  return at::from_blob(
      const_cast<char*>(data_ + info.begin), info.shape, [mapping = mapping_](void*) {}, at::TensorOptions(info.dtype));
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const TensorInfo& info = info_of(name);
  if (is_aligned(info)) return view(info);
  at::Tensor copy = at::empty(info.shape, at::TensorOptions(info.dtype));
  if (info.end > info.begin) std::memcpy(copy.mutable_data_ptr(), data_ + info.begin, info.end - info.begin);
  return copy;
}

at::Tensor SafetensorsFile::slice(const std::string& name, int64_t dim, int64_t begin, int64_t size) const {
  const TensorInfo& info = info_of(name);
  const auto dims = static_cast<int64_t>(info.shape.size());
  check(dim >= 0 && dim < dims, path_, ": tensor \"", name, "\" has no dim ", dim);
  const auto cut = static_cast<size_t>(dim);
  check(begin >= 0 && size >= 0 && size <= info.shape[cut] && begin <= info.shape[cut] - size, path_, ": tensor \"",
        name, "\" has ", info.shape[cut], " indices in dim ", dim, ", not [", begin, ", ", begin, " + ", size, ")");
  if (is_aligned(info)) return view(info).narrow(dim, begin, size);
  std::vector<int64_t> shape = info.shape;
  shape[cut] = size;
  at::Tensor copy = at::empty(shape, at::TensorOptions(info.dtype));
  if (copy.numel() == 0) return copy;
  // One run of bytes for every index of the dims in front.
  const size_t element = c10::elementSize(info.dtype);
  const auto inner = static_cast<size_t>(c10::multiply_integers(shape.begin() + dim + 1, shape.end())) * element;
  const size_t run = static_cast<size_t>(size) * inner, stride = static_cast<size_t>(info.shape[cut]) * inner;
  const char* source = data_ + info.begin + static_cast<size_t>(begin) * inner;
  auto* out = static_cast<char*>(copy.mutable_data_ptr());
  for (size_t done = 0; done < copy.nbytes(); done += run, source += stride) std::memcpy(out + done, source, run);
  return copy;
}

}  // namespace fpdist::checkpoint
