// Who shares an axis with whom, for meshes of thread ranks.
#include "fpdist/comm/mesh.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/mesh_shape.hpp"

namespace fpdist::comm {
namespace {

/// World ranks of the communicator's members in its own order, as the members themselves say.
std::vector<int64_t> members_of(Communicator& axis, int world_rank) {
  at::Tensor mine = at::full({1}, world_rank, at::kLong), all = at::zeros({axis.size()}, at::kLong);
  axis.all_gather_v(mine, all, std::vector<int64_t>(axis.size(), 1));
  return {all.data_ptr<int64_t>(), all.data_ptr<int64_t>() + axis.size()};
}

/// Ranks that differ from `at` in the axes of `free` (letters of dpct: dp, pp, cp, tp) only, outermost axis slowest.
std::vector<int64_t> expected_members(const MeshShape& shape, const Coordinates& at, const std::string& free) {
  const auto is_free = [&](char axis) { return free.find(axis) != std::string::npos; };
  std::vector<int64_t> ranks;
  int rank = 0;  // counted by hand: tp innermost
  for (int d = 0; d < shape.dp; ++d)
    for (int p = 0; p < shape.pp; ++p)
      for (int c = 0; c < shape.cp; ++c)
        for (int t = 0; t < shape.tp; ++t, ++rank)
          if ((is_free('d') || d == at.dp) && (is_free('p') || p == at.pp) && (is_free('c') || c == at.cp) &&
              (is_free('t') || t == at.tp))
            ranks.push_back(rank);
  return ranks;
}

void check_mesh(World& world, const MeshShape& shape) {
  const Mesh mesh(world, shape);
  const Coordinates at = mesh.at();
  SCOPED_TRACE(testing::Message() << "mesh " << to_string(shape) << ", rank " << world.rank());
  EXPECT_EQ(((at.dp * shape.pp + at.pp) * shape.cp + at.cp) * shape.tp + at.tp, world.rank());
  EXPECT_EQ(&mesh.world(), &world.communicator());
  const auto check_axis = [&](Communicator& axis, const char* name, const char* free, int place) {
    EXPECT_EQ(axis.axis(), name);
    EXPECT_EQ(axis.rank(), place) << name;
    EXPECT_EQ(members_of(axis, world.rank()), expected_members(shape, at, free)) << name;
  };
  check_axis(mesh.dp(), "dp", "d", at.dp);
  check_axis(mesh.tp(), "tp", "t", at.tp);
  check_axis(mesh.cp(), "cp", "c", at.cp);
  check_axis(mesh.cp_gradient(), "cp_gradient", "c", at.cp);
  check_axis(mesh.pp(), "pp", "p", at.pp);
  check_axis(mesh.pp_gradient(), "pp_gradient", "p", at.pp);
  check_axis(mesh.dp_cp(), "dp_cp", "dc", at.dp * shape.cp + at.cp);
}

TEST(Mesh, EveryAxisHasItsMembersInOrder) {
  const std::vector<MeshShape> shapes = {{.dp = 2, .pp = 2, .cp = 2, .tp = 2}, {.dp = 3, .pp = 1, .cp = 2, .tp = 1},
                                         {.dp = 1, .pp = 5, .cp = 1, .tp = 1}, {.dp = 2, .pp = 3, .cp = 1, .tp = 2},
                                         {.dp = 1, .pp = 1, .cp = 3, .tp = 2}, {.dp = 1, .pp = 2, .cp = 3, .tp = 2},
                                         {.dp = 1, .pp = 1, .cp = 1, .tp = 1}};
  for (const MeshShape& shape : shapes) {
    run_threads(shape.size(), [&](World& world) { check_mesh(world, shape); }, {.timeout = std::chrono::seconds(40)});
  }
}

TEST(Mesh, OneRunMayHaveSeveralMeshes) {
  run_threads(8,
              [](World& world) {
                for (const MeshShape& shape :
                     {MeshShape{.dp = 2, .pp = 2, .cp = 2, .tp = 1}, MeshShape{.dp = 1, .pp = 1, .cp = 4, .tp = 2}}) {
                  check_mesh(world, shape);
                }
              },
              {.timeout = std::chrono::seconds(40)});
}

TEST(Mesh, AWrongProductIsRefusedBeforeAnythingIsCommunicated) {
  run_threads(4,
              [](World& world) {
                if (world.rank() == 1) {  // alone: a mesh that talked first would wait for the others
                  for (const MeshShape& wrong :
                       {MeshShape{.dp = 4, .pp = 2, .cp = 1, .tp = 1}, MeshShape{.dp = 3, .pp = 1, .cp = 1, .tp = 1},
                        MeshShape{.dp = -1, .pp = 4, .cp = 1, .tp = 1}, MeshShape{.dp = 4, .pp = -1, .cp = -1, .tp = 1},
                        MeshShape{.dp = 0, .pp = 1, .cp = 1, .tp = 1}}) {
                    EXPECT_THROW(Mesh(world, wrong), ConfigError) << to_string(wrong);
                  }
                  EXPECT_EQ(world.communicator().traffic().messages, 0);
                }
                world.communicator().barrier();
              },
              {.timeout = std::chrono::seconds(10)});
}

}  // namespace
}  // namespace fpdist::comm
