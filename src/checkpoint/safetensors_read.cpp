#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/ScalarType.h>
#include <c10/util/accumulate.h>

#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/safetensors_header.hpp"
#include "src/files/mapped_file.hpp"

namespace fpdist::checkpoint {
namespace {

/// Whose bytes stay for as long as a tensor looks into them.
std::shared_ptr<const files::MappedFile> map_file(const std::string& path) {
  try {
    auto file = std::make_shared<const files::MappedFile>(path);
    check<ModelFileError>(!file->bytes().empty(), path, ": is empty, no safetensors file: fetch it again");
    return file;
  } catch (const DataError& error) {
    throw ModelFileError(error.what());
  }
}

/// A byte other than 0 and 1 must not become a C++ bool.
at::TensorOptions options_of(const TensorInfo& info) {
  return at::TensorOptions(info.dtype == at::kBool ? at::kByte : info.dtype);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  const std::shared_ptr<const files::MappedFile> file = map_file(path);
  uint64_t data_begin = 0;
  Header header = parse_file(file->bytes(), path, data_begin);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  identity_ = file->identity();
  mapping_ = std::shared_ptr<const char>(file, file->bytes().data());
  data_ = file->bytes().data() + data_begin;
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
      const_cast<char*>(data_ + info.begin), info.shape, [mapping = mapping_](void*) {}, options_of(info));
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const TensorInfo& info = info_of(name);
  if (is_aligned(info)) return view(info);
  at::Tensor copy = at::empty(info.shape, options_of(info));
  if (info.end > info.begin) std::memcpy(copy.mutable_data_ptr(), data_ + info.begin, info.end - info.begin);
  return copy;
}

void SafetensorsFile::check_slice(const std::string& name, const TensorInfo& info, int64_t dim, int64_t begin,
                                  int64_t size) const {
  const auto dims = static_cast<int64_t>(info.shape.size());
  check(dim >= 0 && dim < dims, path_, ": tensor \"", name, "\" has no dim ", dim);
  const int64_t extent = info.shape[static_cast<size_t>(dim)];
  check(begin >= 0 && size >= 0 && size <= extent && begin <= extent - size, path_, ": tensor \"", name, "\" has ",
        extent, " indices in dim ", dim, ", not [", begin, ", ", begin, " + ", size, ")");
}

at::Tensor SafetensorsFile::slice(const std::string& name, int64_t dim, int64_t begin, int64_t size) const {
  const TensorInfo& info = info_of(name);
  check_slice(name, info, dim, begin, size);
  if (is_aligned(info)) return view(info).narrow(dim, begin, size);
  std::vector<int64_t> shape = info.shape;
  shape[static_cast<size_t>(dim)] = size;
  at::Tensor copy = at::empty(shape, options_of(info));
  auto* out = static_cast<char*>(copy.mutable_data_ptr());
  visit_bytes(name, dim, begin, size, [&](const char* run, size_t bytes) {
    std::memcpy(out, run, bytes);
    out += bytes;
  });
  return copy;
}

void SafetensorsFile::visit_bytes(const std::string& name, int64_t dim, int64_t begin, int64_t size,
                                  const std::function<void(const char*, size_t)>& visit) const {
  const TensorInfo& info = info_of(name);
  check_slice(name, info, dim, begin, size);
  // One run of bytes for every index of the dims in front.
  const auto inner = static_cast<size_t>(c10::multiply_integers(info.shape.begin() + dim + 1, info.shape.end())) *
                     c10::elementSize(info.dtype);
  const size_t run = static_cast<size_t>(size) * inner,
               stride = static_cast<size_t>(info.shape[static_cast<size_t>(dim)]) * inner;
  if (run == 0) return;
  for (const char* at = data_ + info.begin; at < data_ + info.end; at += stride)
    visit(at + static_cast<size_t>(begin) * inner, run);
}

}  // namespace fpdist::checkpoint
