#include "src/comm/device/hosts_of_ranks.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::comm {

std::string HostsOfRanks::own_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

HostsOfRanks::HostsOfRanks(Communicator& ranks, const std::string& name) {
  const at::Tensor own = at::full({1}, static_cast<int64_t>(std::hash<std::string>{}(name)), at::kLong);
  at::Tensor all = at::empty({ranks.size()}, at::kLong);
  ranks.all_gather_v(own, all, std::vector<int64_t>(index(ranks.size()), 1));
  for (size_t i = 0; i < ranks.members().size(); ++i)
    host_.emplace(ranks.members()[i], all.const_data_ptr<int64_t>()[i]);
}

bool HostsOfRanks::are_several(std::span<const int> world_ranks) const {
  return std::any_of(world_ranks.begin(), world_ranks.end(),
                     [&](int rank) { return host_.at(rank) != host_.at(world_ranks.front()); });
}

}  // namespace fpdist::comm
