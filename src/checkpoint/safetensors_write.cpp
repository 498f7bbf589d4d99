#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "files.hpp"
#include "fpdist/checkpoint/safetensors.hpp"
#include "fpdist/core/error.hpp"
#include "safetensors_header.hpp"

namespace fpdist::checkpoint {
namespace {

/// Header bytes with the length in front, padded with spaces so that the data starts at a multiple of 8.
std::string header_bytes(const std::vector<const std::pair<std::string, at::Tensor>*>& order) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  uint64_t offset = 0;
  for (const auto* entry : order) {
    const auto& [name, tensor] = *entry;
    const uint64_t end = offset + tensor.nbytes();
    header[name] = {{"dtype", safetensors_name(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string json = header.dump();
  json.resize((json.size() + 7) / 8 * 8, ' ');
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(json.size() >> (8 * i) & 0xff));
  return bytes + json;
}

}  // namespace

void write_safetensors(const std::string& path, const NamedTensors& tensors) {
  std::vector<const std::pair<std::string, at::Tensor>*> order;
  std::set<std::string> names;
  for (const auto& entry : tensors) {
    check(entry.second.defined(), path, ": tensor \"", entry.first, "\" is undefined");
    check(entry.first != "__metadata__" && names.insert(entry.first).second, path, ": the name \"", entry.first,
          "\" is given twice or reserved");
    order.push_back(&entry);
  }
  // Larger elements first: then every tensor starts at a multiple of its own element size.
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->second.element_size() > b->second.element_size(); });
  AtomicFile file(path);
  const std::string header = header_bytes(order);
  file.append(header.data(), header.size());
  for (const auto* entry : order) {
    const at::Tensor host = entry->second.detach().to(at::kCPU).contiguous();
    file.append(host.const_data_ptr(), host.nbytes());
  }
  file.commit();
}

}  // namespace fpdist::checkpoint
