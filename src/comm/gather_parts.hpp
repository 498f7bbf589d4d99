#pragma once
// comm: lists and texts of all ranks on all ranks, where nobody knows how long the others' are.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

struct GatheredParts {
  at::Tensor all;               ///< every rank's part, rank after rank
  std::vector<int64_t> counts;  ///< [ranks] elements of each
};

/// `mine` is one-dimensional, of one dtype on all ranks, as long as each likes. Collective.
GatheredParts gather_parts(const at::Tensor& mine, Communicator& axis);

/// [ranks]. Collective.
std::vector<std::string> gather_texts(const std::string& mine, Communicator& axis);

}  // namespace fpdist::comm
