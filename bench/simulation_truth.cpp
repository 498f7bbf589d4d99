// Does the simulator tell the truth? Op lists run by the real executor over 8 MPI ranks, with stage work replaced by
// sleeps of the planned length, against the simulated makespan. A quiet machine only: what else runs makes them longer.
//   mpirun -np 8 build/release/bin/simulation_truth
// Ends with 1 when the median ratio of a schedule is more than 5 % off.

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <thread>

#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/parallel/pipeline/executor.hpp"
#include "src/plan/schedule/simulate.hpp"

namespace {

using namespace fpdist;

using plan::Op;

constexpr int kStages = 8;

/// Sleeps as long as the op would take; a cost unit is a microsecond.
class SleepingWork final : public parallel::StepWork {
 public:
  SleepingWork(const plan::PipelineShape& shape, const std::vector<plan::UnitCost>& units, int stage)
      : units_(units), is_last_(stage == kStages - 1), runs_(shape.runs) {
    for (const int slices : shape.slices) first_.push_back(next_), next_ += slices;
  }
  at::Tensor forward(const Op& op, const at::Tensor&) override { return sleep(op, plan::kForwardPass); }
  at::Tensor backward_input(const Op& op, const at::Tensor&) override { return sleep(op, plan::kInputPass); }
  void backward_weight(const Op& op) override { sleep(op, plan::kWeightPass); }
  void reduce_gradients(const Op&) override {}
  void optimizer_step() override {}
  at::Tensor buffer(const Op&, bool) override { return at::zeros({4}, at::kFloat); }

 private:
  at::Tensor sleep(const Op& op, plan::Pass pass) {
    const plan::UnitCost& cost = units_[static_cast<size_t>(first_[static_cast<size_t>(op.pack)] + op.slice)];
    const bool has_head = is_last_ && op.run == runs_ - 1;
    std::this_thread::sleep_for(std::chrono::microseconds(cost.layer[pass] + (has_head ? cost.head[pass] : 0)));
    return at::zeros({4}, at::kFloat);
  }
  const std::vector<plan::UnitCost>& units_;
  bool is_last_;
  int runs_, next_ = 0;
  std::vector<int> first_;
};

/// Forward, input and weight gradient of about 1 : 1 : 1, with variation `cv` from unit to unit.
std::vector<plan::UnitCost> draw_units(int count, double cv, uint64_t seed) {
  Rng rng(seed, 5);
  std::vector<plan::UnitCost> units;
  for (int u = 0; u < count; ++u) {
    const double size = std::max(0.2, 1.0 + cv * rng.normal());
    const auto cost = static_cast<int64_t>(9000 * size);
    units.push_back({.layer = {cost, cost + 1000, cost - 1000}, .head = {1500, 1500, 1500}, .rows = 1, .link = 0});
  }
  return units;
}

/// Seconds that the slowest stage took from a common start to its last op.
double measure(comm::World& world, const plan::PipelineShape& shape, const std::vector<plan::UnitCost>& units) {
  const comm::Mesh mesh(world, {.dp = 1, .pp = kStages});
  const auto device = comm::make_cpu_device();
  const auto ops = plan::pipeline_ops(shape)[static_cast<size_t>(world.rank())];
  SleepingWork work(shape, units, world.rank());
  world.communicator().barrier();
  const auto times = parallel::execute(ops, shape.runs, work, {mesh.pp(), mesh.pp_gradient(), *device});
  at::Tensor end = at::full({1}, times.back().end, at::kDouble);
  world.communicator().all_reduce(end, comm::ReduceOp::kMax);
  return end.item<double>();
}

/// Measured over planned, the median over seeds and variations.
double truth_of(comm::World& world, plan::Schedule schedule, bool is_sliced) {
  std::vector<double> ratios;
  for (const double cv : {0.0, 0.25, 0.5})
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      plan::PipelineShape shape;
      shape.schedule = schedule, shape.stages = kStages;
      shape.runs = schedule == plan::Schedule::kInterleaved ? 2 : 1;
      shape.slices.assign(16, 1);
      if (is_sliced) shape.slices = {1, 2, 3, 1, 4, 2, 2, 1}, shape.window = 4;
      const auto units = draw_units(16, cv, seed);
      const std::vector<int64_t> layers(static_cast<size_t>(kStages * shape.runs), 1);
      const auto simulated = plan::simulate(shape, plan::pipeline_ops(shape), units, layers);
      const double planned = static_cast<double>(simulated.makespan) * 1e-6;
      ratios.push_back(measure(world, shape, units) / planned);
      if (world.rank() == 0)
        std::printf("%-12s %-7s cv %.2f seed %d: measured / planned = %.3f of %.3f s\n",
                    std::string(plan::name_of(schedule)).c_str(), is_sliced ? "sliced" : "whole", cv,
                    static_cast<int>(seed), ratios.back(), planned);
    }
  std::sort(ratios.begin(), ratios.end());
  return ratios[ratios.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  comm::World world(&argc, &argv);
  bool is_true = world.size() == kStages;
  if (!is_true) std::fprintf(stderr, "simulation_truth: start it with mpirun -np 8\n");
  for (const plan::Schedule schedule :
       {plan::Schedule::k1F1B, plan::Schedule::kInterleaved, plan::Schedule::kZeroBubble})
    for (const bool is_sliced : {false, true}) {
      if (world.size() != kStages) continue;
      const double median = truth_of(world, schedule, is_sliced);
      is_true = is_true && std::abs(median - 1.0) <= 0.05;
      if (world.rank() == 0)
        std::printf("%s %s: median %.3f\n", std::string(plan::name_of(schedule)).c_str(),
                    is_sliced ? "sliced" : "whole", median);
    }
  return is_true ? 0 : 1;
}
