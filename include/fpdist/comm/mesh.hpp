#pragma once
// comm: Mesh, the world arranged as dp x pp x cp x tp (outermost first); every axis is a Communicator.

#include <memory>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/types.hpp"

namespace fpdist::comm {

class Mesh {
 public:
  /// Collective over the world. `shape` is resolved (resolve_mesh) and must multiply to the world's size.
  Mesh(World& world, const MeshShape& shape);
  const MeshShape& shape() const { return shape_; }
  Communicator& world() const { return *world_; }
  Communicator& dp() const { return *dp_; }
  int dp_index() const { return dp_->rank(); }

 private:
  MeshShape shape_;
  Communicator* world_;
  std::unique_ptr<Communicator> dp_;
};

}  // namespace fpdist::comm
