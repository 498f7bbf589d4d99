#include "src/checkpoint/merge_adapter.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <map>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/checkpoint/state/convert.hpp"

namespace fpdist::checkpoint {
namespace {

/// bfloat16 adapters are multiplied in float32.
at::Tensor read(const HfDirectory& adapter, const arch::LowRank& pair, const char* which) {
  const std::string name = kAdapterPrefix + pair.module + which;
  const at::Tensor value = adapter.file_with(name).tensor(name);
  return value.scalar_type() == at::kDouble ? value : value.to(at::kFloat);
}

/// scale * B A.
at::Tensor product(const HfDirectory& adapter, const arch::LowRank& pair) {
  return at::mm(read(adapter, pair, arch::kLowRankB), read(adapter, pair, arch::kLowRankA)).mul_(pair.scale);
}

at::Tensor scaled(const at::Tensor& sum, const HfDirectory& adapter, const arch::LowRank& pair, bool has_magnitude) {
  if (!has_magnitude) return sum;
  const at::Tensor factor = read(adapter, pair, arch::kMagnitude) / at::linalg_vector_norm(sum, 2, {1});
  return factor.view({-1, 1}) * sum;
}

void note_loss(const at::Tensor& merged, const at::Tensor& sum, const std::string& name, MergeLoss& loss) {
  const auto off = (merged.to(sum.scalar_type()) - sum).abs().max().item<double>();
  if (off > loss.largest) loss = {.largest = off, .weight = name};
}

}  // namespace

MergeLoss export_merged(const HfDirectory& base, const HfDirectory& adapter, const arch::Adapter& products,
                        const std::string& directory, const ExportOptions& options) {
  const at::NoGradGuard merging;
  std::map<std::string, const arch::LowRank*> beside;
  for (const arch::LowRank& pair : products.linear) {
    const std::string weight = pair.module + ".weight";
    check<ModelFileError>(base.contains(weight) && base.shape(weight) == std::vector{pair.out, pair.in}, base.path(),
                          " is not the model of the adapter ", adapter.path(), ": it has no ", weight, " of [",
                          pair.out, ", ", pair.in, "]");
    beside[base.spelling(weight)] = &pair;
  }
  MergeLoss loss;
  export_again(base, std::nullopt, directory, options, [&](const std::string& name, const at::Tensor& value) {
    const auto found = beside.find(name);
    if (found == beside.end()) return value;
    const at::Tensor added = product(adapter, *found->second);
    const at::Tensor sum = scaled(added + value, adapter, *found->second, products.has_magnitude);
    const at::Tensor merged = sum.to(value.scalar_type());
    note_loss(merged, sum, name, loss);
    return merged;
  });
  return loss;
}

}  // namespace fpdist::checkpoint
