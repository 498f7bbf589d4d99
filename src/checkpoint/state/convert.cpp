#include "src/checkpoint/state/convert.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "src/core/index.hpp"

namespace fpdist::checkpoint {
namespace {

Region whole_of(const TensorSpec& spec) {
  return {.shape = spec.shape, .size = static_cast<int64_t>(c10::multiply_integers(spec.shape))};
}

/// A tensor of a directory and where it stands.
struct StoredTensor {
  std::string name;
  const SafetensorsFile* file;
  TensorInfo info;
};

std::vector<StoredTensor> tensors_in_file_order(const HfDirectory& directory) {
  std::vector<StoredTensor> stored;
  for (const std::string& name : directory.names()) {
    const SafetensorsFile& file = directory.file_with(name);
    stored.push_back({name, &file, file.tensors().at(name)});
  }
  const auto place = [](const StoredTensor& tensor) {
    return std::tuple(tensor.file->path(), tensor.info.begin, tensor.name);
  };
  std::sort(stored.begin(), stored.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
  return stored;
}

/// The directory's name of a weight: the head's where it stands for the embedding.
std::string name_in(const HfDirectory& directory, const std::string& weight) {
  const bool is_head = weight == arch::kEmbeddingWeight && !directory.contains(weight);
  return is_head && directory.contains(arch::kHeadWeight) ? arch::kHeadWeight : weight;
}

}  // namespace

void export_masters(const TrainingState& state, std::span<const TensorSpec> weights, const std::string& directory,
                    const ExportOptions& options) {
  export_hf_directory(
      directory, weights,
      [&](size_t index) {
        const TensorSpec& spec = weights[index];
        at::Tensor value = at::empty(spec.shape, spec.dtype), flat = value.view({-1});
        state.read(spec.name + kMaster, whole_of(spec), flat);
        return value;
      },
      options);
}

void export_again(const HfDirectory& from, std::optional<at::ScalarType> dtype, const std::string& directory,
                  const ExportOptions& options, const ChangeTensor& change) {
  const std::vector<StoredTensor> stored = tensors_in_file_order(from);
  std::vector<TensorSpec> specs;
  for (const auto& [name, file, info] : stored)
    specs.push_back({name, at::isFloatingType(info.dtype) ? dtype.value_or(info.dtype) : info.dtype, info.shape});
  export_hf_directory(
      directory, specs,
      [&](size_t index) {
        const at::Tensor value = stored[index].file->tensor(stored[index].name);
        return (change ? change(stored[index].name, value) : value).to(specs[index].dtype);
      },
      options);
}

void begin_state(const HfDirectory& from, std::span<const TensorSpec> weights, const std::string& directory,
                 const StateTexts& texts) {
  constexpr std::array<const char*, 3> kKinds{kMaster, kExpAvg, kExpAvgSq};
  std::vector<PieceSpec> pieces;
  for (const TensorSpec& weight : weights)
    for (const char* kind : kKinds) pieces.push_back({weight.name + kind, weight.dtype, whole_of(weight)});
  const StateFile shard = write_state_shard(directory, 0, 1, pieces, [&](size_t piece) {
    const TensorSpec& weight = weights[piece / kKinds.size()];
    if (piece % kKinds.size() != 0) return at::zeros({pieces[piece].region.size}, weight.dtype);
    at::Tensor value = at::empty(weight.shape, weight.dtype);
    from.read_into(name_in(from, weight.name), value);
    return value.view({-1});
  });
  commit_state(directory, {&shard, 1}, texts);
}

}  // namespace fpdist::checkpoint
