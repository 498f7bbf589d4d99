#include "fpdist/comm/mesh.hpp"

#include "fpdist/core/error.hpp"

namespace fpdist::comm {

Mesh::Mesh(World& world, const MeshShape& shape) : shape_(shape), world_(&world.communicator()) {
  check<ConfigError>(shape.dp > 0 && shape.size() == world.size(), "mesh ", to_string(shape), " on ", world.size(),
                     " ranks; dp * pp * cp * tp must be the number of ranks");
  const int replica = shape.pp * shape.cp * shape.tp;  // dp is the outermost axis
  dp_ = world_->split("dp", world.rank() % replica, world.rank() / replica);
}

}  // namespace fpdist::comm
