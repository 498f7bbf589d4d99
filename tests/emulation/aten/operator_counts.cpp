#include "tests/emulation/aten/operator_counts.hpp"

#include <map>
#include <mutex>

#include "tests/emulation/aten/count_operator.hpp"

namespace fpdist::emulated {
namespace {

/// Never destroyed: streams may still run.
struct Counted {
  std::mutex mutex;
  std::map<std::string, OperatorCounts> by_name;
};
Counted& counted() {
  static auto* const all = new Counted;
  return *all;
}

uint64_t bytes_of(const at::Tensor& tensor) {
  if (!tensor.defined()) return 0;
  auto bytes = static_cast<uint64_t>(tensor.element_size());
  for (int64_t dim = 0; dim < tensor.dim(); ++dim)
    if (tensor.stride(dim) != 0 || tensor.size(dim) == 0) bytes *= static_cast<uint64_t>(tensor.size(dim));
  return bytes;
}

uint64_t bytes_of(const c10::IValue& value) {
  uint64_t bytes = 0;
  if (value.isTensor()) return bytes_of(value.toTensor());
  if (value.isTensorList())
    for (const at::Tensor& tensor : value.toTensorVector()) bytes += bytes_of(tensor);
  if (value.isOptionalTensorList())
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
      if (tensor) bytes += bytes_of(*tensor);
  return bytes;
}

}  // namespace

void count_operator(const std::string& name, c10::ArrayRef<c10::IValue> values) {
  uint64_t bytes = 0;
  for (const c10::IValue& value : values) bytes += bytes_of(value);
  Counted& all = counted();
  const std::lock_guard lock(all.mutex);
  OperatorCounts& counts = all.by_name[name];
  ++counts.calls, counts.bytes += bytes;
}

}  // namespace fpdist::emulated

void fpdist_emulated_operator_counts(const char* name, fpdist::emulated::OperatorCounts* counts) {
  auto& all = fpdist::emulated::counted();
  const std::lock_guard lock(all.mutex);
  *counts = {};
  for (const auto& [operation, own] : all.by_name)
    if (operation.find(name) != std::string::npos) counts->calls += own.calls, counts->bytes += own.bytes;
}
