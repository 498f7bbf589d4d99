#include "src/checkpoint/gather.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/comm/gather_parts.hpp"

namespace fpdist::checkpoint {
namespace {

constexpr int64_t kFields = 5;  // of a slice that travels

}  // namespace

Gatherer::Gatherer(std::vector<TensorSpec> whole, std::vector<TensorSlice> own, comm::Communicator& world,
                   comm::Device& device)
    : world_(world), device_(device), whole_(std::move(whole)), own_(std::move(own)) {
  std::map<std::string, size_t> place;
  for (size_t t = 0; t < whole_.size(); ++t) place[whole_[t].name] = t;
  for (const TensorSlice& slice : own_)
    check(place.contains(slice.name), "Gatherer: a slice of \"", slice.name, "\", which is none of the whole tensors");
  std::stable_sort(own_.begin(), own_.end(),
                   [&](const auto& a, const auto& b) { return place.at(a.name) < place.at(b.name); });
  std::vector<int64_t> mine;
  for (const TensorSlice& slice : own_)
    for (const int64_t field : {static_cast<int64_t>(place.at(slice.name)), int64_t{world_.rank()}, slice.dim,
                                slice.begin, slice.value.size(slice.dim)})
      mine.push_back(field);
  const at::Tensor all = comm::gather_parts(at::tensor(mine, at::kLong), world_).all;
  const int64_t* field = all.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < all.numel(); i += kFields, field += kFields)
    slices_.push_back({field[0], field[1], field[2], field[3], field[4]});
  std::sort(slices_.begin(), slices_.end());
}

at::Tensor Gatherer::on_host(const TensorSlice& slice) const { return device_.download(slice.value).contiguous(); }

void Gatherer::give_all() {
  for (const TensorSlice& slice : own_) {
    world_.group_begin();
    world_.send(on_host(slice), 0);
    world_.group_end();
  }
}

at::Tensor Gatherer::fetch(size_t tensor) {
  const auto& [name, dtype, shape] = whole_[tensor];
  at::Tensor value = at::empty(shape, dtype);
  for (const PlacedSlice& placed : slices_) {
    if (placed.tensor != static_cast<int64_t>(tensor)) continue;
    at::Tensor place = value.narrow(placed.dim, placed.begin, placed.extent);
    if (placed.rank == 0) {
      for (const TensorSlice& slice : own_)
        if (slice.name == name) place.copy_(on_host(slice));
      continue;
    }
    at::Tensor arrived = at::empty(place.sizes(), dtype);
    world_.group_begin();
    world_.receive(arrived, static_cast<int>(placed.rank));
    world_.group_end();
    place.copy_(arrived);
  }
  return value;
}

}  // namespace fpdist::checkpoint
