#pragma once
// comm: Mesh, the world arranged as dp x pp x cp x tp (outermost first, so tp ranks are neighbours); every axis is a
// Communicator. Axes may span hosts.

#include <memory>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/mesh_shape.hpp"

namespace fpdist::comm {

class Mesh {
 public:
  /// Collective over the world. `shape` is resolved (resolve_mesh) and must multiply to the world's size; throws
  /// ConfigError before anything is communicated. `device`, where given, must outlive the mesh: all axes then carry its
  /// tensors beside the host's.
  Mesh(World& world, const MeshShape& shape, Device* device = nullptr);
  const MeshShape& shape() const { return shape_; }
  const Coordinates& at() const { return at_; }
  Communicator& world() const { return *world_; }
  /// Made when first asked for, a call that is collective over the world: training sums over dp_cp and needs none.
  Communicator& dp() const;
  Communicator& tp() const { return *tp_; }
  Communicator& cp() const { return *cp_; }                    ///< keys, scores
  Communicator& cp_gradient() const { return *cp_gradient_; }  ///< key gradients on their way home
  Communicator& pp() const { return *pp_; }                    ///< hidden rows
  Communicator& pp_gradient() const { return *pp_gradient_; }  ///< their gradients
  Communicator& dp_cp() const { return *dp_cp_; }              ///< ranks that hold the same weights: ZeRO's axis

 private:
  /// Ranks that agree in every coordinate but the axis' own, 0 in `rest`, form one communicator, in the axis' order.
  std::unique_ptr<Communicator> split(const char* name, const Coordinates& rest, int place) const;
  MeshShape shape_;
  Coordinates at_;
  std::unique_ptr<Communicator> extended_;  ///< the world with device tensors; null: the world's own will do
  Communicator* world_;
  mutable std::unique_ptr<Communicator> dp_;
  std::unique_ptr<Communicator> tp_, cp_, cp_gradient_, pp_, pp_gradient_, dp_cp_;
};

}  // namespace fpdist::comm
