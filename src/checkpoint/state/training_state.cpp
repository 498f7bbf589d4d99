#include "src/checkpoint/state/training_state.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/state/region.hpp"
#include "src/checkpoint/state/shard.hpp"
#include "src/checkpoint/state/state_files.hpp"
#include "src/core/index.hpp"

namespace fpdist::checkpoint {
namespace {

constexpr int64_t kCastAtOnce = int64_t{1} << 20;  // elements

const StateFile& listed(const Manifest& manifest, const std::string& name) {
  return *std::find_if(manifest.files.begin(), manifest.files.end(),
                       [&](const StateFile& file) { return file.name == name; });
}

}  // namespace

struct TrainingState::Files {
  explicit Files(std::string path)
      : directory(std::move(path)),
        manifest(open_manifest(directory)),
        state_json(read_listed(directory, listed(manifest, kStateFile))),
        config_json(read_listed(directory, listed(manifest, kConfigFile))) {
    std::vector<std::vector<ShardPiece>> pieces;
    for (int rank = 0; rank < manifest.ranks; ++rank) {
      const SafetensorsFile& file = shards.emplace_back(directory + "/" + shard_name(rank, manifest.ranks));
      pieces.push_back(parse_pieces(file.tensors(), file.metadata(), file.path()));
    }
    tensors = join_shards(std::move(pieces), directory);
  }

  const std::vector<PlacedPiece>& pieces_of(const std::string& name) const {
    const auto found = tensors.find(name);
    check<ModelFileError>(found != tensors.end(), directory, ": holds no \"", name,
                          "\": it is of another model or optimizer");
    return found->second;
  }

  /// `destination`: [region.size] of the tensor's dtype, on the host.
  void copy(const std::vector<PlacedPiece>& pieces, const Region& region, const at::Tensor& destination) const {
    auto* out = static_cast<char*>(destination.mutable_data_ptr());
    for (const PlacedPiece& placed : pieces) {
      const at::Tensor stored = shards[placed.shard].tensor(placed.piece.key);
      copy_common(placed.piece.region, static_cast<const char*>(stored.const_data_ptr()), region, out,
                  stored.element_size());
    }
  }

  std::string directory;
  Manifest manifest;
  std::string state_json, config_json;
  std::vector<SafetensorsFile> shards;                      // by rank
  std::map<std::string, std::vector<PlacedPiece>> tensors;  // by name, none without a piece
};

TrainingState::TrainingState(const std::string& directory) : files_(std::make_unique<Files>(directory)) {}
TrainingState::~TrainingState() = default;

const std::string& TrainingState::directory() const { return files_->directory; }
const std::string& TrainingState::state_json() const { return files_->state_json; }
const std::string& TrainingState::config_json() const { return files_->config_json; }
int TrainingState::ranks() const { return files_->manifest.ranks; }

void TrainingState::verify(int part, int parts) const {
  const std::vector<StateFile>& files = files_->manifest.files;
  for (size_t file = index(part); file < files.size(); file += index(parts))
    verify_listed(files_->directory, files[file]);
}

std::vector<std::string> TrainingState::names() const {
  std::vector<std::string> names;
  for (const auto& [name, pieces] : files_->tensors) names.push_back(name);
  return names;
}

bool TrainingState::contains(const std::string& name) const { return files_->tensors.contains(name); }

std::vector<int64_t> TrainingState::shape(const std::string& name) const {
  return files_->pieces_of(name).front().piece.region.shape;
}

at::ScalarType TrainingState::dtype(const std::string& name) const {
  return files_->pieces_of(name).front().piece.dtype;
}

void TrainingState::read(const std::string& name, const Region& region, at::Tensor& destination) const {
  const std::vector<PlacedPiece>& pieces = files_->pieces_of(name);
  const std::string fault = fault_of(region);
  check(fault.empty(), "of \"", name, "\" is wanted ", fault);
  check<ModelFileError>(shape(name) == region.shape, files_->directory, ": \"", name, "\" is ",
                        at::IntArrayRef(shape(name)), " where the model has ", at::IntArrayRef(region.shape));
  check(destination.dim() == 1 && destination.numel() == region.size, "\"", name, "\" is read into ",
        destination.sizes(), " where ", region.size, " elements are wanted");
  const at::NoGradGuard no_grad;
  const at::ScalarType stored = dtype(name);
  if (destination.scalar_type() == stored && destination.is_cpu() && destination.is_contiguous())
    return files_->copy(pieces, region, destination);
  at::Tensor block = at::empty({std::min(kCastAtOnce, region.size)}, stored);
  for (int64_t done = 0; done < region.size; done += kCastAtOnce) {
    Region part = region;
    part.begin += done, part.size = std::min(kCastAtOnce, region.size - done);
    const at::Tensor values = block.narrow(0, 0, part.size);
    files_->copy(pieces, part, values);
    destination.narrow(0, done, part.size).copy_(values);
  }
}

}  // namespace fpdist::checkpoint
