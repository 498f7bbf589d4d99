#include "src/trainer/step/verify.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/trainer/step/pack_run.hpp"

namespace fpdist::trainer {
namespace {

/// Relative difference that rounding alone explains, by dtype: two summation orders of a few thousand terms.
double tolerance(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 1e-10;
    case DType::kFloat32:
      return 1e-3;
    case DType::kBFloat16:
      return 1e-1;
  }
  throw std::logic_error("enum value without a tolerance");
}

struct Measured {
  double loss;
  std::vector<GradientPart> gradient;  // copies of this rank's parts of the sum
};

Measured measure(const StepParts& parts, const StepPlanner& planner, const PlannedStep& planned, bool share) {
  const comm::Mesh& mesh = parts.job.mesh;
  PlannedStep step;
  step.groups.all = planned.groups.all;
  step.plan = planner.plan(step.groups.all, share);
  step.shares_prefix = share, step.number = planned.number;
  PackRun run(parts, step, RunUntil::kGradients);
  parallel::execute(run.ops(), static_cast<int>(parts.weights.runs().size()), run,
                    {mesh.pp(), mesh.pp_gradient(), *parts.job.device}, [&](size_t i) { run.before(i); });
  parts.weights.sum_gradients();
  Measured measured{run.results().metrics.reduce(mesh.world()).at("loss"), parts.weights.gradients()};
  for (GradientPart& part : measured.gradient) part.value = part.value.clone();
  return measured;
}

/// [parameters, 2]: squared difference and squared size of this rank's parts.
at::Tensor squares_of(const StepParts& parts, const Measured& shared, const Measured& alone) {
  const auto count = static_cast<int64_t>(parts.weights.all().size());
  at::Tensor squares = at::zeros({count, 2}, parts.job.tensor_options(at::kDouble));
  for (size_t i = 0; i < shared.gradient.size(); ++i) {
    const at::Tensor a = shared.gradient[i].value.to(at::kDouble), b = alone.gradient[i].value.to(at::kDouble);
    at::Tensor row = squares[static_cast<int64_t>(shared.gradient[i].parameter)];
    row[0] += (a - b).square().sum();
    row[1] += b.square().sum();
  }
  return squares;
}

}  // namespace

void verify_step(const StepParts& parts, const StepPlanner& planner, const PlannedStep& planned, LogSink& log) {
  const comm::Mesh& mesh = parts.job.mesh;
  comm::Device& device = *parts.job.device;
  const Measured shared = measure(parts, planner, planned, true), alone = measure(parts, planner, planned, false);

  at::Tensor squares = squares_of(parts, shared, alone);
  mesh.dp_cp().all_reduce(squares);
  at::Tensor total = squares.sum(0);  // slices and copies of other ranks count as well: this is a scale only
  mesh.world().all_reduce(total, comm::ReduceOp::kMax);
  squares = device.download(squares);
  const double whole = device.download(total)[1].sqrt().item<double>();
  double worst = alone.loss == shared.loss ? 0.0 : std::abs(shared.loss - alone.loss) / std::abs(alone.loss);
  std::string where = "the loss";
  for (int64_t p = 0; p < squares.size(0); ++p) {
    // A parameter whose gradient is only rounding noise is measured against the whole gradient.
    const double size = std::max(squares[p][1].sqrt().item<double>(), 1e-3 * whole);
    const double off = squares[p][0].sqrt().item<double>();
    const double difference = off == 0 ? 0.0 : off / size;
    if (difference > worst || std::isnan(difference)) worst = difference, where = parts.weights.all()[index(p)]->name;
  }
  const double allowed = tolerance(parts.job.config.model.dtype);
  const std::string failed =
      worst <= allowed ? ""
                       : text("pack.verify_steps: step ", planned.number, ": shared and unshared disagree by ", worst,
                              " (relative) in ", where, ", more than ", allowed,
                              ": please report this, and train with pack.share_prefix: false");
  throw_together(failed, mesh.world());
  log.info(
      text("verified step ", planned.number, ": shared against unshared differs by ", worst, " at most (", where, ")"));
}

}  // namespace fpdist::trainer
