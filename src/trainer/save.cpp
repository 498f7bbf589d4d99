// The weights of all ranks as one Hugging Face directory, one tensor in memory at a time.

#include <ATen/ATen.h>

#include <algorithm>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/model/whole_parameters.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {
namespace {

using WholeParameters = std::vector<std::pair<std::string, std::vector<int64_t>>>;

/// A slice of a parameter and the rank that brings it. [tensor, rank, dim, begin, extent]
constexpr int64_t kFields = 5;

/// Parameters that this rank brings: each element of the model is brought by exactly one rank.
std::vector<std::pair<size_t, ops::ParameterPtr>> own_slices(const Trainer::Impl& trainer,
                                                             const WholeParameters& whole) {
  std::vector<std::pair<size_t, ops::ParameterPtr>> own;
  if (trainer.mesh.at().dp != 0 || trainer.mesh.at().cp != 0) return own;
  for (size_t t = 0; t < whole.size(); ++t)
    for (const auto& parameter : trainer.ordered.all)
      if (parameter->name == whole[t].first && parameter->sharding.counted) own.emplace_back(t, parameter);
  return own;
}

/// Everybody's slices in ascending (tensor, rank) order. Collective.
std::vector<std::vector<int64_t>> all_slices(const std::vector<std::pair<size_t, ops::ParameterPtr>>& own,
                                             comm::Communicator& world) {
  std::vector<int64_t> mine;
  for (const auto& [tensor, parameter] : own) {
    const int dim = std::max(0, parameter->sharding.dim);
    for (const int64_t field : {static_cast<int64_t>(tensor), int64_t{world.rank()}, int64_t{dim},
                                parameter->sharding.begin, parameter->value.size(dim)})
      mine.push_back(field);
  }
  at::Tensor length = at::zeros({world.size()}, at::kLong);
  length[world.rank()] = static_cast<int64_t>(mine.size());
  world.all_reduce(length);
  const std::vector<int64_t> counts(length.const_data_ptr<int64_t>(), length.const_data_ptr<int64_t>() + world.size());
  at::Tensor all = at::empty({length.sum().item<int64_t>()}, at::kLong);
  world.all_gather_v(at::tensor(mine, at::kLong), all, counts);
  std::vector<std::vector<int64_t>> slices;
  const int64_t* field = all.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < all.numel(); i += kFields) slices.emplace_back(field + i, field + i + kFields);
  std::sort(slices.begin(), slices.end());
  return slices;
}

/// Brings whole parameters to rank 0, one at a time, in Hugging Face order. Collective: rank 0 calls fetch for 0, 1,
/// ... while the others are in give_all.
class Gatherer {
 public:
  enum class Part { kValue, kGradient };
  Gatherer(Trainer::Impl& trainer, Part part)
      : world_(trainer.mesh.world()),
        device_(*trainer.device),
        whole_(model::whole_parameters(trainer.model, head_of(trainer.config.method))),
        own_(own_slices(trainer, whole_)),
        slices_(all_slices(own_, world_)),
        part_(part) {
    trainer.reducer.settle();
    if (part == Part::kGradient) trainer.reducer.gather_gradients();
  }
  const WholeParameters& whole() const { return whole_; }

  void give_all() {
    for (const auto& [number, parameter] : own_) {
      world_.group_begin();
      world_.send(tensor_of(*parameter), 0);
      world_.group_end();
    }
  }
  at::Tensor fetch(size_t tensor, at::ScalarType dtype) {
    at::Tensor value = at::empty(whole_[tensor].second, dtype);
    for (const auto& slice : slices_) {
      if (slice[0] != static_cast<int64_t>(tensor)) continue;
      at::Tensor place = value.narrow(slice[2], slice[3], slice[4]);
      if (slice[1] == 0) {
        for (const auto& [number, parameter] : own_)
          if (number == tensor) place.copy_(tensor_of(*parameter));
        continue;
      }
      at::Tensor arrived = at::empty(place.sizes(), dtype);
      world_.group_begin();
      world_.receive(arrived, static_cast<int>(slice[1]));
      world_.group_end();
      place.copy_(arrived);
    }
    return value;
  }

 private:
  at::Tensor tensor_of(const ops::Parameter& parameter) const {
    return device_.download(part_ == Part::kValue ? parameter.value.detach() : parameter.main_grad).contiguous();
  }
  comm::Communicator& world_;
  comm::Device& device_;
  WholeParameters whole_;
  std::vector<std::pair<size_t, ops::ParameterPtr>> own_;
  std::vector<std::vector<int64_t>> slices_;
  Part part_;
};

std::map<std::string, at::Tensor> gather(Trainer::Impl& trainer, Gatherer::Part part) {
  Gatherer gatherer(trainer, part);
  std::map<std::string, at::Tensor> all;
  if (trainer.world.rank() != 0) return gatherer.give_all(), all;
  const at::ScalarType dtype = scalar_type(trainer.config.model.dtype);
  for (size_t t = 0; t < gatherer.whole().size(); ++t)
    all[gatherer.whole()[t].first] =
        gatherer.fetch(t, part == Gatherer::Part::kValue ? dtype : ops::accumulate_dtype(dtype));
  return all;
}

}  // namespace

std::map<std::string, at::Tensor> Trainer::Impl::gather_weights() { return gather(*this, Gatherer::Part::kValue); }
std::map<std::string, at::Tensor> Trainer::Impl::gather_gradients() { return gather(*this, Gatherer::Part::kGradient); }

void Trainer::Impl::save(const std::string& directory) {
  Gatherer gatherer(*this, Gatherer::Part::kValue);
  if (world.rank() == 0) {
    const at::ScalarType dtype = scalar_type(config.model.dtype);
    std::vector<checkpoint::TensorSpec> specs;
    for (const auto& [name, shape] : gatherer.whole()) specs.push_back({name, dtype, shape});
    checkpoint::export_hf_directory(
        directory, specs, [&](size_t tensor) { return gatherer.fetch(tensor, dtype); },
        {.config_json = arch::export_config_json(model, name_of(config.model.dtype), config.method == Method::kReward),
         .copy_from = config.model.path});
  } else {
    gatherer.give_all();
  }
  world.communicator().barrier();
}

}  // namespace fpdist::trainer
