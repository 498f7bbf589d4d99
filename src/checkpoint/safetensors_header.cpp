#include "src/checkpoint/safetensors_header.hpp"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::checkpoint {
namespace {

constexpr std::pair<std::string_view, at::ScalarType> kDtypes[] = {{"F64", at::kDouble},
                                                                   {"F32", at::kFloat},
                                                                   {"F16", at::kHalf},
                                                                   {"BF16", at::kBFloat16},
                                                                   {"I64", at::kLong},
                                                                   {"I32", at::kInt},
                                                                   {"I16", at::kShort},
                                                                   {"I8", at::kChar},
                                                                   {"U8", at::kByte},
                                                                   {"U16", at::kUInt16},
                                                                   {"U32", at::kUInt32},
                                                                   {"U64", at::kUInt64},
                                                                   {"BOOL", at::kBool},
                                                                   {"F8_E4M3", at::kFloat8_e4m3fn},
                                                                   {"F8_E5M2", at::kFloat8_e5m2}};

at::ScalarType parse_dtype(const nlohmann::json& entry, const std::string& place) {
  check<ModelFileError>(entry.contains("dtype") && entry["dtype"].is_string(), place, " has no dtype");
  const auto& name = entry["dtype"].get_ref<const std::string&>();
  for (const auto& [known, dtype] : kDtypes)
    if (known == name) return dtype;
  throw ModelFileError(text(place, " has the unknown dtype \"", name, "\""));
}

/// Elements of the shape; products are checked with zeros left out, so that no stride can overflow either.
uint64_t parse_shape(const nlohmann::json& entry, const std::string& place, std::vector<int64_t>& shape) {
  check<ModelFileError>(entry.contains("shape") && entry["shape"].is_array(), place, " has no shape");
  check<ModelFileError>(entry["shape"].size() <= 64, place, " has more than 64 dims");
  uint64_t elements = 1;
  bool empty = false;
  for (const auto& dim : entry["shape"]) {
    check<ModelFileError>(dim.is_number_unsigned(), place, " has a dim that is no whole number: ", dim.dump());
    const auto size = dim.get<uint64_t>();
    empty |= size == 0;
    const bool overflow = size != 0 && __builtin_mul_overflow(elements, size, &elements);
    check<ModelFileError>(!overflow && elements <= uint64_t{1} << 56, place, " has a shape too large for any file");
    shape.push_back(static_cast<int64_t>(size));
  }
  return empty ? 0 : elements;
}

TensorInfo parse_entry(const nlohmann::json& entry, uint64_t data_bytes, const std::string& place) {
  check<ModelFileError>(entry.is_object(), place, " is not an object");
  TensorInfo info{.dtype = parse_dtype(entry, place), .shape = {}, .begin = 0, .end = 0};
  const uint64_t bytes = parse_shape(entry, place, info.shape) * c10::elementSize(info.dtype);
  const auto offsets = entry.find("data_offsets");
  check<ModelFileError>(offsets != entry.end() && offsets->is_array() && offsets->size() == 2 &&
                            (*offsets)[0].is_number_unsigned() && (*offsets)[1].is_number_unsigned(),
                        place, " has no pair of data_offsets");
  info.begin = (*offsets)[0].get<uint64_t>();
  info.end = (*offsets)[1].get<uint64_t>();
  check<ModelFileError>(info.begin <= info.end && info.end <= data_bytes, place, " lies at [", info.begin, ", ",
                        info.end, ") of ", data_bytes, " data bytes: the file is cut short or damaged, fetch it again");
  check<ModelFileError>(info.end - info.begin == bytes, place, " takes ", info.end - info.begin,
                        " bytes where dtype and shape need ", bytes);
  return info;
}

void check_coverage(const Header& header, uint64_t data_bytes, const std::string& where) {
  using Span = std::pair<std::pair<uint64_t, uint64_t>, const std::string*>;
  std::vector<Span> spans;
  for (const auto& [name, info] : header.tensors) spans.push_back({{info.begin, info.end}, &name});
  std::sort(spans.begin(), spans.end());
  uint64_t end = 0;
  for (const auto& [span, name] : spans) {
    check<ModelFileError>(span.first == end, where, ": tensor \"", *name, "\" starts at byte ", span.first, " where ",
                          end, " is next: ", span.first < end ? "an overlap" : "a hole");
    end = span.second;
  }
  check<ModelFileError>(end == data_bytes, where, ": ", data_bytes, " data bytes, tensors end at ", end);
}

}  // namespace

Header parse_header(std::string_view json, uint64_t data_bytes, const std::string& where) {
  const nlohmann::json root = files::parse_strict(json, where, 4);
  check<ModelFileError>(root.is_object(), where, ": the header is not a JSON object");
  Header header;
  for (const auto& [name, entry] : root.items()) {
    if (name == "__metadata__") {
      check<ModelFileError>(entry.is_object(), where, ": __metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        check<ModelFileError>(value.is_string(), where, ": __metadata__ \"", key, "\" is not a string");
        header.metadata[key] = value.get<std::string>();
      }
    } else {
      header.tensors.emplace(name, parse_entry(entry, data_bytes, text(where, ": tensor \"", name, "\"")));
    }
  }
  check_coverage(header, data_bytes, where);
  return header;
}

Header parse_file(std::string_view file, const std::string& where, uint64_t& data_begin) {
  constexpr size_t kLengthBytes = 8;
  check<ModelFileError>(file.size() >= kLengthBytes, where, ": ", file.size(),
                        " bytes are no safetensors file: fetch it again");
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[i]);
  check<ModelFileError>(length <= kMaxHeaderBytes, where, ": a header of ", length, " bytes is over the format's ",
                        kMaxHeaderBytes, ": not a safetensors file");
  const uint64_t left = file.size() - kLengthBytes;
  check<ModelFileError>(length <= left, where, ": the header needs ", length, " bytes, the file has ", left,
                        " left: it is cut short, fetch it again");
  const std::string_view json = file.substr(kLengthBytes, length);
  check<ModelFileError>(!json.empty() && json.front() == '{', where, ": the header does not start with {");
  data_begin = kLengthBytes + length;
  return parse_header(json, file.size() - data_begin, where);
}

std::string_view safetensors_name(at::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes)
    if (known == dtype) return name;
  throw ShapeError(text("safetensors cannot hold dtype ", c10::toString(dtype)));
}

}  // namespace fpdist::checkpoint
