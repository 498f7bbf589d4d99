// Every axis on GPUs through NCCL (ranks may share one) against one CPU rank. Run under mpirun.

#include <iostream>

#include "tests/support/ranks/mpi_main.hpp"
#include "tests/trainer/gpu_runs.hpp"

namespace fpdist::trainer {
namespace {

using test::config_of, test::expect_same, test::GpuRun, test::run, test::run_on, test::why_no_gpu;

plan::ParallelOptions mesh_of(const MeshShape& shape) {
  plan::ParallelOptions mesh;
  static_cast<MeshShape&>(mesh) = shape;
  return mesh;
}

/// Every axis alone.
std::vector<plan::ParallelOptions> meshes_of_two() {
  std::vector<plan::ParallelOptions> all{mesh_of({.dp = 2}), mesh_of({.dp = 1, .tp = 2})};
  for (const plan::CpMethod method : {plan::CpMethod::kRing, plan::CpMethod::kGroupCast, plan::CpMethod::kUlysses}) {
    all.push_back(mesh_of({.dp = 1, .cp = 2}));
    all.back().cp_method = method, all.back().cp_chunk = 8;
  }
  for (const plan::Schedule schedule :
       {plan::Schedule::k1F1B, plan::Schedule::kZeroBubble, plan::Schedule::kInterleaved}) {
    all.push_back(mesh_of({.dp = 1, .pp = 2}));
    all.back().schedule = schedule;
    if (schedule == plan::Schedule::kInterleaved) all.back().virtual_stages = 2;
  }
  return all;
}

/// Axes together: what could wait for each other on the device's queues.
std::vector<plan::ParallelOptions> meshes_of_four() {
  std::vector<plan::ParallelOptions> all{mesh_of({.dp = 2, .pp = 2}),          mesh_of({.dp = 1, .pp = 2, .cp = 2}),
                                         mesh_of({.dp = 1, .pp = 2, .tp = 2}), mesh_of({.dp = 1, .cp = 2, .tp = 2}),
                                         mesh_of({.dp = 1, .pp = 4}),          mesh_of({.dp = 1, .cp = 4})};
  for (plan::ParallelOptions& mesh : all) mesh.cp_chunk = 8;
  all[0].schedule = plan::Schedule::kZeroBubble;
  all[1].schedule = all[2].schedule = plan::Schedule::kInterleaved;
  all[1].virtual_stages = all[2].virtual_stages = 2;
  return all;
}

TEST(RanksOnGpus, EveryAxisGivesTheStepsOfOneCpuRank) {
  comm::World& world = test::test_world();
  const std::string why_not = why_no_gpu(world);
  if (!why_not.empty()) GTEST_SKIP() << "NOT RUN: " << why_not;
  ASSERT_TRUE(world.size() == 2 || world.size() == 4) << "run with mpirun -np 2 or 4";
  for (const Method method : {Method::kDpo, Method::kGrpo}) {
    const GpuRun cpu = run(config_of(method, DType::kFloat32, "cpu"));
    std::vector<plan::ParallelOptions> meshes = world.size() == 2 ? meshes_of_two() : meshes_of_four();
    if (method == Method::kGrpo) meshes.resize(1);  // what travels is the same; connecting NCCL takes seconds a mesh
    for (const plan::ParallelOptions& mesh : meshes) {
      if (world.rank() == 0) std::cout << name_of(method) << " on " << to_string(mesh) << std::endl;
      SCOPED_TRACE(text(name_of(method), " on ", to_string(mesh), ", ", plan::name_of(mesh.schedule), ", ",
                        plan::name_of(mesh.cp_method)));
      Config config = config_of(method, DType::kFloat32, "cuda");
      config.comm.share_gpus = true;
      config.parallel = mesh;
      if (mesh.pp > 1 && world.size() == 4) config.pack.slices = 2;
      const GpuRun gpu = run_on(world, config), again = run_on(world, config);
      if (world.rank() != 0) continue;
      expect_same(gpu, cpu);
      for (const auto& [name, weight] : gpu.weight) EXPECT_TRUE(at::equal(weight, again.weight.at(name))) << name;
    }
  }
}

}  // namespace
}  // namespace fpdist::trainer
