#pragma once
// trainer (private): samples that each rank made for itself, put together so that every rank has the whole step.

#include <span>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/data/sample.hpp"

namespace fpdist::trainer {

/// Collective. All ranks' groups, in rank order, on every rank; ids are given anew, 0, 1, ... in that order.
std::vector<data::Group> gather_groups(std::span<const data::Group> own, comm::Communicator& world);

}  // namespace fpdist::trainer
