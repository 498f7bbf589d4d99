#pragma once
// Tests: random tensors, cut as meshes cut them: by tp along a dim, each slice by ZeRO into ranges of any lengths.

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "src/checkpoint/state/training_state.hpp"
#include "src/core/index.hpp"

namespace fpdist::test {

using Random = std::mt19937_64;

inline int64_t draw(Random& random, int64_t least, int64_t most) {
  return std::uniform_int_distribution<int64_t>(least, most)(random);
}

/// Bounds of `parts` ranges of [0, extent], which may be empty.
inline std::vector<int64_t> draw_bounds(Random& random, int64_t extent, int64_t parts) {
  std::vector<int64_t> bounds{0, extent};
  for (int64_t i = 1; i < parts; ++i) bounds.push_back(draw(random, 0, extent));
  std::sort(bounds.begin(), bounds.end());
  return bounds;
}

/// Bits, so that each element tells where it belongs, NaNs and denormals among them.
inline at::Tensor draw_tensor(Random& random) {
  const at::ScalarType dtypes[] = {at::kFloat, at::kDouble, at::kBFloat16, at::kLong};
  std::vector<int64_t> shape;
  for (int64_t dims = draw(random, 0, 4); dims > 0; --dims) shape.push_back(draw(random, draw(random, 0, 9) > 0, 9));
  const at::Tensor tensor = at::empty(shape, dtypes[draw(random, 0, 3)]);
  auto* bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
  for (size_t i = 0; i < tensor.nbytes(); ++i) bytes[i] = static_cast<unsigned char>(random());
  return tensor;
}

/// The elements of a region, by ATen.
inline at::Tensor elements_of(const at::Tensor& whole, const checkpoint::Region& region) {
  const at::Tensor slice = region.dim < 0 ? whole : whole.narrow(region.dim, region.from, region.extent);
  return slice.reshape({-1}).narrow(0, region.begin, region.size).clone();
}

/// Regions that are the whole tensor together, as a random mesh holds them.
inline std::vector<checkpoint::Region> draw_cut(Random& random, const at::Tensor& whole) {
  const int64_t dim = draw(random, -1, whole.dim() - 1);
  const std::vector<int64_t> slices =
      dim < 0 ? std::vector<int64_t>{0, 0} : draw_bounds(random, whole.size(dim), draw(random, 1, 4));
  std::vector<checkpoint::Region> regions;
  for (size_t slice = 0; slice + 1 < slices.size(); ++slice) {
    const int64_t from = slices[slice], extent = slices[slice + 1] - from;
    const int64_t size = dim < 0 ? whole.numel() : whole.narrow(dim, from, extent).numel();
    const std::vector<int64_t> ranges = draw_bounds(random, size, draw(random, 1, 5));
    for (size_t range = 0; range + 1 < ranges.size(); ++range)
      regions.push_back({.shape = whole.sizes().vec(),
                         .dim = dim,
                         .from = from,
                         .extent = extent,
                         .begin = ranges[range],
                         .size = ranges[range + 1] - ranges[range]});
  }
  return regions;
}

/// A state of random tensors.
using WholeState = std::map<std::string, at::Tensor>;

inline WholeState draw_state(Random& random, int64_t tensors) {
  WholeState state;
  for (int64_t i = 0; i < tensors; ++i) state["layer." + std::to_string(i) + "/master"] = draw_tensor(random);
  return state;
}

/// Its pieces on each of `ranks` ranks.
inline std::vector<std::vector<checkpoint::StatePiece>> deal_pieces(Random& random, const WholeState& state,
                                                                    int64_t ranks) {
  std::vector<std::vector<checkpoint::StatePiece>> of_rank(index(ranks));
  for (const auto& [name, whole] : state)
    for (const checkpoint::Region& region : draw_cut(random, whole))
      of_rank[index(draw(random, 0, ranks - 1))].push_back({name, region, elements_of(whole, region)});
  return of_rank;
}

/// All ranks' part of a save, and rank 0's.
inline void save_state(const std::string& directory, const std::vector<std::vector<checkpoint::StatePiece>>& of_rank,
                       const checkpoint::StateTexts& texts = {.state_json = "{\"step\": 3}", .config_json = "{}"}) {
  std::vector<checkpoint::StateFile> shards;
  const int ranks = static_cast<int>(of_rank.size());
  for (int rank = 0; rank < ranks; ++rank)
    shards.push_back(checkpoint::write_state_shard(directory, rank, ranks, of_rank[index(rank)]));
  checkpoint::commit_state(directory, shards, texts);
}

}  // namespace fpdist::test
