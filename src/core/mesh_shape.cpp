#include "fpdist/core/mesh_shape.hpp"

#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist {

MeshShape resolve_mesh(MeshShape wanted, int world_size) {
  int open = 0, known = 1;
  for (auto [name, degree] : {std::pair{"dp", wanted.dp}, {"pp", wanted.pp}, {"cp", wanted.cp}, {"tp", wanted.tp}}) {
    check<ConfigError>(degree == -1 || degree >= 1, "parallel.", name, " is ", degree,
                       ": use a degree of 1 or more, or -1 for the rest of the ranks");
    degree == -1 ? ++open : known *= degree;
  }
  check<ConfigError>(open <= 1, "more than one parallel degree is -1: give all but one of dp, pp, cp, tp");
  const std::string asked = to_string(wanted);
  const int rest = world_size / known;
  for (int* degree : {&wanted.dp, &wanted.pp, &wanted.cp, &wanted.tp})
    if (*degree == -1) *degree = rest;
  check<ConfigError>(wanted.size() == world_size, "parallel: ", asked, " needs ",
                     open ? text("a multiple of ", known) : text(wanted.size()), " ranks, the job has ", world_size,
                     ": start that many with mpirun -np, or set one degree to -1");
  return wanted;
}

std::string to_string(const MeshShape& mesh) {
  return text("dp ", mesh.dp, " x pp ", mesh.pp, " x cp ", mesh.cp, " x tp ", mesh.tp);
}

Coordinates coordinates_of(int rank, const MeshShape& mesh) {
  return {.dp = rank / (mesh.pp * mesh.cp * mesh.tp),
          .pp = rank / (mesh.cp * mesh.tp) % mesh.pp,
          .cp = rank / mesh.tp % mesh.cp,
          .tp = rank % mesh.tp};
}

int rank_of(const Coordinates& at, const MeshShape& mesh) {
  return ((at.dp * mesh.pp + at.pp) * mesh.cp + at.cp) * mesh.tp + at.tp;
}

}  // namespace fpdist
