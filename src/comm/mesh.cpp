#include "fpdist/comm/mesh.hpp"

#include "fpdist/core/error.hpp"
#include "src/comm/device/connected_axis.hpp"
#include "src/comm/device/directed_pairs.hpp"

namespace fpdist::comm {

Mesh::Mesh(World& world, const MeshShape& shape, Device* device) : shape_(shape), world_(&world.communicator()) {
  const bool is_resolved = shape.dp > 0 && shape.pp > 0 && shape.cp > 0 && shape.tp > 0;
  check<ConfigError>(is_resolved && shape.size() == world.size(), "mesh ", to_string(shape), " on ", world.size(),
                     " ranks; dp * pp * cp * tp must be the number of ranks");
  at_ = coordinates_of(world.rank(), shape);
  if (device != nullptr && !device->where().is_cpu()) {
    extended_ = device->extend(world_->split(world_->axis(), 0, world.rank()));
    world_ = extended_.get();
  }
  const auto axis = [&](const char* name, Coordinates rest, int place) { return split(name, rest, place); };
  tp_ = axis("tp", {.dp = at_.dp, .pp = at_.pp, .cp = at_.cp, .tp = 0}, at_.tp);
  cp_ = axis("cp", {.dp = at_.dp, .pp = at_.pp, .cp = 0, .tp = at_.tp}, at_.cp);
  cp_gradient_ = axis("cp_gradient", {.dp = at_.dp, .pp = at_.pp, .cp = 0, .tp = at_.tp}, at_.cp);
  pp_ = axis("pp", {.dp = at_.dp, .pp = 0, .cp = at_.cp, .tp = at_.tp}, at_.pp);
  pp_gradient_ = axis("pp_gradient", {.dp = at_.dp, .pp = 0, .cp = at_.cp, .tp = at_.tp}, at_.pp);
  dp_cp_ = axis("dp_cp", {.dp = 0, .pp = at_.pp, .cp = 0, .tp = at_.tp}, at_.dp * shape_.cp + at_.cp);
  if (extended_ && shape_.pp > 1) {
    pp_ = std::make_unique<DirectedPairs>(std::move(pp_), 1, device->where());
    pp_gradient_ = std::make_unique<DirectedPairs>(std::move(pp_gradient_), -1, device->where());
  }
  if (extended_ && shape_.cp > 1) {
    cp_ = std::make_unique<ConnectedAxis>(std::move(cp_), device->where());
    cp_gradient_ = std::make_unique<ConnectedAxis>(std::move(cp_gradient_), device->where());
  }
}

std::unique_ptr<Communicator> Mesh::split(const char* name, const Coordinates& rest, int place) const {
  return world_->split(name, rank_of(rest, shape_), place);
}

Communicator& Mesh::dp() const {
  if (!dp_) dp_ = split("dp", {.dp = 0, .pp = at_.pp, .cp = at_.cp, .tp = at_.tp}, at_.dp);
  return *dp_;
}

}  // namespace fpdist::comm
