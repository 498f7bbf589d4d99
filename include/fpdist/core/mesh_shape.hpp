#pragma once
// core: the axes of a job and where a rank stands on them.

#include <string>

namespace fpdist {

/// Degrees of the mesh axes, outermost first. Rank = ((dp_index * pp + pp_index) * cp + cp_index) * tp + tp_index.
struct MeshShape {
  int dp = -1, pp = 1, cp = 1, tp = 1;  ///< dp -1: the rest of the ranks
  int size() const { return dp * pp * cp * tp; }
  bool operator==(const MeshShape&) const = default;
};
/// Replaces a single -1 and checks the product against the world; throws ConfigError naming the axes and the cure.
MeshShape resolve_mesh(MeshShape wanted, int world_size);
std::string to_string(const MeshShape& mesh);

/// Where a rank stands on each axis.
struct Coordinates {
  int dp = 0, pp = 0, cp = 0, tp = 0;
  bool operator==(const Coordinates&) const = default;
};
Coordinates coordinates_of(int rank, const MeshShape& mesh);
int rank_of(const Coordinates& at, const MeshShape& mesh);

}  // namespace fpdist
