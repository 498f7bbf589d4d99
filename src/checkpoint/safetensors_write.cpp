#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/safetensors_header.hpp"
#include "src/files/files.hpp"

namespace fpdist::checkpoint {

FileLayout lay_out(std::span<const TensorSpec> specs, const std::map<std::string, std::string>& metadata) {
  FileLayout layout;
  layout.order.resize(specs.size());
  std::iota(layout.order.begin(), layout.order.end(), size_t{0});
  // Larger elements first: then every tensor starts at a multiple of its own element size.
  std::stable_sort(layout.order.begin(), layout.order.end(), [&](size_t a, size_t b) {
    return c10::elementSize(specs[a].dtype) > c10::elementSize(specs[b].dtype);
  });
  layout.begin.resize(specs.size());
  // Put together entry by entry: an ordered object looks through all of its names for each new one.
  std::ostringstream json;
  json << R"({"__metadata__":)" << nlohmann::json(metadata).dump();
  uint64_t offset = 0;
  for (const size_t index : layout.order) {
    const TensorSpec& spec = specs[index];
    const uint64_t end = offset + byte_size(spec);
    const nlohmann::ordered_json entry{
        {"dtype", safetensors_name(spec.dtype)}, {"shape", spec.shape}, {"data_offsets", {offset, end}}};
    json << ',' << nlohmann::json(spec.name).dump() << ':' << entry.dump();
    layout.begin[index] = offset;
    offset = end;
  }
  json << '}';
  std::string padded = json.str();
  padded.resize((padded.size() + 7) / 8 * 8, ' ');
  for (int i = 0; i < 8; ++i) layout.header.push_back(static_cast<char>(padded.size() >> (8 * i) & 0xff));
  layout.header += padded;
  return layout;
}

void check_specs(const std::string& path, std::span<const TensorSpec> specs) {
  std::set<std::string> names;
  for (const TensorSpec& spec : specs) {
    check(spec.name != "__metadata__" && names.insert(spec.name).second, path, ": the name \"", spec.name,
          "\" is given twice or reserved");
    for (const int64_t size : spec.shape) check(size >= 0, path, ": tensor \"", spec.name, "\" has a dim of ", size);
    safetensors_name(spec.dtype);
  }
}

uint64_t byte_size(const TensorSpec& spec) {
  return static_cast<uint64_t>(c10::multiply_integers(spec.shape)) * c10::elementSize(spec.dtype);
}

std::vector<TensorSpec> specs_of(const std::string& path, const NamedTensors& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    check(tensor.defined(), path, ": tensor \"", name, "\" is undefined");
    specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  return specs;
}

void write_safetensors(const std::string& path, std::span<const TensorSpec> specs, const FetchTensor& fetch) {
  check_specs(path, specs);
  const FileLayout layout = lay_out(specs, {{"format", "pt"}});
  files::AtomicFile file(path);
  file.append(layout.header.data(), layout.header.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const at::Tensor tensor = fetch(i);
    check(tensor.defined() && tensor.scalar_type() == specs[i].dtype && tensor.sizes() == specs[i].shape, path,
          ": the tensor fetched for \"", specs[i].name, "\" is not of the dtype and shape that were announced");
    const at::Tensor host = tensor.detach().to(at::kCPU).contiguous();
    file.write_at(layout.header.size() + layout.begin[i], host.const_data_ptr(), host.nbytes());
  }
  file.commit();
}

void write_safetensors(const std::string& path, const NamedTensors& tensors) {
  write_safetensors(path, specs_of(path, tensors), [&](size_t index) { return tensors[index].second; });
}

}  // namespace fpdist::checkpoint
