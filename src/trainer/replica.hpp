#pragma once
// trainer (private): the replicas of a mesh, each of which holds the whole model, on one rank or in parts over tp and
// pp.

#include <cstddef>
#include <memory>
#include <span>

#include "fpdist/comm/mesh.hpp"
#include "fpdist/generate/stages.hpp"

namespace fpdist::trainer {

/// What this rank has of its replica, to generate with.
generate::Stages stages_of(const comm::Mesh& mesh, std::span<const std::unique_ptr<model::Transformer>> runs);

/// Of `count` things in a row those that this rank's replica works on: [begin, end).
struct ReplicaPart {
  size_t begin = 0, end = 0;
};
ReplicaPart part_of_replica(const comm::Mesh& mesh, size_t count);

/// Whether of the ranks of its replica, which all have it, it is this one that goes on with the thing of this number.
bool takes_in_replica(const comm::Mesh& mesh, size_t number);

/// Whether this rank tells the others what its replica has found; its other parts have found the same.
bool speaks_for_replica(const comm::Mesh& mesh);

}  // namespace fpdist::trainer
