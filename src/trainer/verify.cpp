// pack.verify_steps: the step's loss and gradients with shared prefixes, and again with every sample alone.

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/trainer/step_run.hpp"

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
  std::vector<at::Tensor> gradient;  // this rank's pieces of the sum
};

/// [parameters, 2]: squared difference and squared size of this rank's pieces.
at::Tensor squares_of(const Trainer::Impl& trainer, const Measured& shared, const Measured& alone) {
  const auto count = static_cast<int64_t>(trainer.flat.parameters().size());
  at::Tensor squares = at::zeros({count, 2}, trainer.tensor_options(at::kDouble));
  for (const parallel::PieceOfParameter& part : trainer.reducer.parts()) {
    const int64_t from = part.range.begin - trainer.reducer.pieces()[part.piece].begin;
    const at::Tensor a = shared.gradient[part.piece].narrow(0, from, part.range.size()).to(at::kDouble);
    const at::Tensor b = alone.gradient[part.piece].narrow(0, from, part.range.size()).to(at::kDouble);
    at::Tensor row = squares[static_cast<int64_t>(part.parameter)];
    row[0] += (a - b).square().sum();
    row[1] += b.square().sum();
  }
  return squares;
}

}  // namespace

void Trainer::Impl::verify(const PlannedStep& planned, LogSink& step_log) {
  const auto measure = [&](bool share) {
    PlannedStep step;
    step.groups.all = planned.groups.all;
    step.plan = planner.plan(planned.groups.all, share);
    step.shares_prefix = share;
    std::vector<plan::Op> ops = ops_of(step.plan, mesh.at());
    std::erase_if(ops, [](const plan::Op& op) { return op.kind == plan::OpKind::kOptimizerStep; });
    StepSums sums;
    StepRun run(*this, step, ops, sums);
    parallel::execute(ops, static_cast<int>(policy.size()), run, {mesh.pp(), mesh.pp_gradient(), *device},
                      [&](size_t i) { run.before(i); });
    finish_gradients();
    Measured measured{sums.metrics.reduce(mesh.world()).at("loss"), {}};
    for (const at::Tensor& piece : reducer.gradients()) measured.gradient.push_back(piece.clone());
    return measured;
  };
  const Measured shared = measure(true), alone = measure(false);

  at::Tensor squares = squares_of(*this, shared, alone);
  mesh.dp_cp().all_reduce(squares);
  at::Tensor total = squares.sum(0);  // slices and copies of other ranks count as well: this is a scale only
  mesh.world().all_reduce(total, comm::ReduceOp::kMax);
  squares = device->download(squares);
  const double whole = device->download(total)[1].sqrt().item<double>();
  double worst = alone.loss == shared.loss ? 0.0 : std::abs(shared.loss - alone.loss) / std::abs(alone.loss);
  std::string where = "the loss";
  for (int64_t p = 0; p < squares.size(0); ++p) {
    // A parameter whose gradient is only rounding noise is measured against the whole gradient.
    const double size = std::max(squares[p][1].sqrt().item<double>(), 1e-3 * whole);
    const double off = squares[p][0].sqrt().item<double>();
    const double difference = off == 0 ? 0.0 : off / size;
    if (difference > worst || std::isnan(difference))
      worst = difference, where = flat.parameters()[static_cast<size_t>(p)]->name;
  }
  const double allowed = tolerance(config.model.dtype);
  const std::string failed =
      worst <= allowed ? ""
                       : text("pack.verify_steps: step ", steps_done + 1, ": shared and unshared disagree by ", worst,
                              " (relative) in ", where, ", more than ", allowed,
                              ": please report this, and train with pack.share_prefix: false");
  throw_together(failed, mesh.world());
  step_log.info(
      text("verified step ", steps_done + 1, ": shared against unshared differs by ", worst, " at most (", where, ")"));
}

}  // namespace fpdist::trainer
