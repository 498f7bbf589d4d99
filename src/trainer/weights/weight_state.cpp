#include "src/trainer/weights/weight_state.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <array>
#include <string>
#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::trainer {
namespace {

using Kind = std::pair<const char*, at::Tensor TrainedWeight::*>;
constexpr std::array<Kind, 3> kKinds{{{checkpoint::kMaster, &TrainedWeight::master},
                                      {checkpoint::kExpAvg, &TrainedWeight::exp_avg},
                                      {checkpoint::kExpAvgSq, &TrainedWeight::exp_avg_sq}}};

checkpoint::Region region_of(const TrainedWeight& weight) {
  const ops::Sharding& sharding = weight.sharding;
  checkpoint::Region region;
  region.begin = weight.begin, region.size = weight.master.numel();
  if (sharding.dim < 0) {
    region.shape = weight.value.sizes().vec();
  } else {
    region.shape = sharding.full_shape;
    region.dim = sharding.dim, region.from = sharding.begin, region.extent = weight.value.size(sharding.dim);
  }
  return region;
}

}  // namespace

std::vector<checkpoint::StatePiece> state_pieces(Weights& weights,
                                                 const std::function<at::Tensor(const at::Tensor& part)>& to_host) {
  const at::NoGradGuard copying;
  std::vector<checkpoint::StatePiece> pieces;
  weights.visit([&](const TrainedWeight& weight) {
    if (!weight.sharding.counted || weight.master.numel() == 0) return;
    for (const auto& [kind, part] : kKinds)
      pieces.push_back({.name = weight.name + kind, .region = region_of(weight), .value = to_host(weight.*part)});
  });
  return pieces;
}

void check_has_weights(const checkpoint::TrainingState& state, std::span<const arch::NamedShape> whole,
                       const std::string& directory) {
  for (const auto& [name, shape] : whole)
    for (const auto& [kind, part] : kKinds) {
      const std::string tensor = name + kind;
      check<ModelFileError>(state.contains(tensor), directory, " is of another model: it lacks ", tensor);
      check<ModelFileError>(state.shape(tensor) == shape, directory, " is of another model: ", tensor, " is ",
                            at::IntArrayRef(state.shape(tensor)), " there and ", at::IntArrayRef(shape), " here");
    }
}

void read_weights(const checkpoint::TrainingState& state, int64_t updates, Weights& weights) {
  const at::NoGradGuard reading;
  weights.restore(updates, [&](const TrainedWeight& weight) {
    if (weight.master.numel() == 0) return;
    const checkpoint::Region region = region_of(weight);
    for (const auto& [kind, part] : kKinds) {
      at::Tensor to = weight.*part;
      at::Tensor host = to.device().is_cpu() ? to : at::empty_like(to, at::kCPU);
      state.read(weight.name + kind, region, host);
      if (!host.is_same(to)) to.copy_(host);
    }
  });
}

}  // namespace fpdist::trainer
