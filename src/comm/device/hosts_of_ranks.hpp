#pragma once
// comm, private: HostsOfRanks, which ranks share a machine: asked once, for a communicator and all that are split from
// it.

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

class HostsOfRanks {
 public:
  /// Collective over `ranks`. `name`: of this rank's machine.
  explicit HostsOfRanks(Communicator& ranks, const std::string& name = own_name());
  /// Whether these ranks of the world, all of them among those that were asked, are on several machines.
  bool are_several(std::span<const int> world_ranks) const;

 private:
  static std::string own_name();
  std::map<int, int64_t> host_;  ///< by world rank; a number for each name
};

}  // namespace fpdist::comm
