#pragma once
// The header of a safetensors file: text to checked values and back.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"

namespace fpdist::checkpoint {

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own cap

struct Header {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};

/// Checks everything that can be checked without the data: `data_bytes` must be covered exactly, without holes or
/// overlap.
Header parse_header(std::string_view json, uint64_t data_bytes, const std::string& where);

/// The header of the whole `file`, and where its data begin.
Header parse_file(std::string_view file, const std::string& where, uint64_t& data_begin);

/// The format's name of a dtype ("BF16"); throws ShapeError for one it does not know.
std::string_view safetensors_name(at::ScalarType dtype);

/// Throws ShapeError, starting with `path`, for a name given twice or reserved, a negative size, or a dtype that the
/// format does not know.
void check_specs(const std::string& path, std::span<const TensorSpec> specs);

/// Of the tensor's data; the spec is checked.
uint64_t byte_size(const TensorSpec& spec);

/// Where each tensor's data go, and the header that says so.
struct FileLayout {
  std::string header;           ///< its own length in front; padded with spaces to a multiple of 8
  std::vector<size_t> order;    ///< in which the tensors stand in the file
  std::vector<uint64_t> begin;  ///< of each, from the start of the data
};
FileLayout lay_out(std::span<const TensorSpec> specs, const std::map<std::string, std::string>& metadata);

/// Throws ShapeError, starting with `path`, for an undefined tensor.
std::vector<TensorSpec> specs_of(const std::string& path, const NamedTensors& tensors);

}  // namespace fpdist::checkpoint
