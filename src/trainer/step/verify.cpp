#include "src/trainer/step/verify.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

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

/// Distance of neighbouring numbers of the dtype, relative to them.
double spacing(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-52;
    case DType::kFloat32:
      return 0x1p-23;
    case DType::kBFloat16:
      return 0x1p-8;
  }
  throw std::logic_error("enum value without a spacing");
}

/// How often a gradient may be off by what rounding of the weights alone does to it.
constexpr double kRoundings = 8;

constexpr const char* kSize = "size";

/// The step's loss with a metric more, kSize: what its value is held against. Terms may cancel (advantages of a group
/// add up to 0), so it is the sum of their sizes; and what they are made of may be larger than they are (a margin of
/// many log-probs, a log-prob of nearly 0 from logits of 10), so each input comes in by as much as it weighs, with at
/// least the 1 that every logit has.
loss::LossFunction with_size(const Objective& objective) {
  return [&objective](const loss::Edges& edges, const plan::StepTotals& totals) {
    loss::LossOutput output = objective(edges, totals);
    at::Tensor size = (output.size.defined() ? output.size : output.loss).detach().abs();
    for (const at::Tensor& input : {edges.logp, edges.score}) {
      if (!output.loss.requires_grad() || !input.defined() || !input.requires_grad()) continue;
      const at::Tensor slope = torch::autograd::grad({output.loss}, {input}, {}, /*retain_graph=*/true,
                                                     /*create_graph=*/false, /*allow_unused=*/true)
                                   .front();
      if (slope.defined()) size = size + (slope.abs() * (1 + input.detach().abs())).sum();
    }
    output.metrics[kSize] = {loss::Combine::kSum, size, {}};
    return output;
  };
}

struct Measured {
  double loss, size;
  std::vector<GradientPart> gradient;  // copies of this rank's parts of the sum
};

Measured measure(const StepParts& parts, const StepPlanner& planner, const PlannedStep& planned, bool share) {
  const comm::Mesh& mesh = parts.job.mesh;
  PlannedStep step;
  step.groups.all = planned.groups.all;
  step.plan = planner.plan(step.groups.all, share);
  step.mismatched = planned.mismatched;
  step.shares_prefix = share, step.number = planned.number, step.name = planned.name;
  Objective objective = parts.objective;
  objective.wrap_loss(with_size(parts.objective));
  PackRun run({.job = parts.job, .weights = parts.weights, .objective = objective, .reference = parts.reference}, step,
              RunUntil::kGradients);
  parallel::execute(run.ops(), static_cast<int>(parts.weights.runs().size()), run,
                    {mesh.pp(), mesh.pp_gradient(), *parts.job.device}, [&](size_t i) { run.before(i); });
  const std::string bad = bad_loss(run.results(), parts.job);
  throw_together(bad.empty() ? "" : text(step.name, ": ", bad), mesh.world());
  parts.weights.sum_gradients();
  const auto sums = run.results().metrics.reduce(mesh.world());
  Measured measured{sums.at("loss"), sums.at(kSize), parts.weights.gradients()};
  for (GradientPart& part : measured.gradient) part.value = part.value.clone();
  return measured;
}

/// While it is there, every weight stands at its neighbour, up and down in turn.
class Nudged {
 public:
  Nudged(Weights& weights, DType dtype) : value_(weights.parameters().value()), kept_(value_.clone()) {
    const at::NoGradGuard moving;
    const int64_t even = value_.numel() / 2 * 2;
    const at::Tensor pairs = value_.narrow(0, 0, even).view({-1, 2});
    pairs.select(1, 0).mul_(1 + spacing(dtype)), pairs.select(1, 1).mul_(1 - spacing(dtype));
  }
  ~Nudged() {
    const at::NoGradGuard moving;
    value_.copy_(kept_);
  }
  Nudged(const Nudged&) = delete;
  Nudged& operator=(const Nudged&) = delete;

 private:
  at::Tensor value_, kept_;
};

/// [parameters, 2] on the host: size of the difference, and of `alone`, over the ranks that share the parameter.
at::Tensor distances(const StepParts& parts, const Measured& one, const Measured& alone) {
  const auto count = static_cast<int64_t>(parts.weights.all().size());
  at::Tensor squares = at::zeros({count, 2}, parts.job.tensor_options(at::kDouble));
  for (size_t i = 0; i < one.gradient.size(); ++i) {
    const at::Tensor a = one.gradient[i].value.to(at::kDouble), b = alone.gradient[i].value.to(at::kDouble);
    at::Tensor row = squares[static_cast<int64_t>(one.gradient[i].parameter)];
    row[0] += (a - b).square().sum();
    row[1] += b.square().sum();
  }
  parts.job.mesh.dp_cp().all_reduce(squares);
  return parts.job.device->download(squares.sqrt());
}

/// Of all gradients of `distances`; the same on every rank.
double whole_size(const at::Tensor& distances, comm::Communicator& world) {
  at::Tensor size = distances.select(1, 1).norm().reshape({1});
  world.all_reduce(size, comm::ReduceOp::kMax);  // slices and copies of other ranks count as well: a scale only
  return size.item<double>();
}

struct Worst {
  double difference = 0;  // relative
  std::string where = "the loss";
};

/// `explained` [parameters]: differences up to there are none.
Worst worst_of(const StepParts& parts, double of_loss, const at::Tensor& distances, double whole,
               const at::Tensor& explained) {
  Worst worst{.difference = of_loss};
  for (int64_t p = 0; p < distances.size(0); ++p) {
    const double off = distances[p][0].item<double>();
    if (off <= explained[p].item<double>()) continue;
    // A parameter whose gradient is only rounding noise is measured against the whole gradient.
    const double difference = off / std::max(distances[p][1].item<double>(), 1e-3 * whole);
    if (difference > worst.difference || std::isnan(difference))
      worst = {.difference = difference, .where = parts.weights.all()[index(p)]->name};
  }
  return worst;
}

bool on_any_rank(bool here, comm::Communicator& world) {
  at::Tensor flag = at::full({1}, here ? 1 : 0, at::kLong);
  world.all_reduce(flag, comm::ReduceOp::kMax);
  return flag.item<int64_t>() != 0;
}

}  // namespace

void verify_step(const StepParts& parts, const StepPlanner& planner, const PlannedStep& planned, LogSink& log) {
  comm::Communicator& world = parts.job.mesh.world();
  const Measured shared = measure(parts, planner, planned, true), alone = measure(parts, planner, planned, false);
  const double off = std::abs(shared.loss - alone.loss);
  const double of_loss = off == 0 ? 0.0 : off / std::max(shared.size, alone.size);
  const at::Tensor apart = distances(parts, shared, alone);
  const double whole = whole_size(apart, world), allowed = tolerance(parts.job.config.model.dtype);
  Worst worst = worst_of(parts, of_loss, apart, whole, at::zeros({apart.size(0)}, at::kDouble));
  if (on_any_rank(!(worst.difference <= allowed), world)) {  // a fault, or gradients that are nothing but rounding
    const Nudged nudged(parts.weights, parts.job.config.model.dtype);
    const at::Tensor rounding = distances(parts, measure(parts, planner, planned, false), alone).select(1, 0);
    worst = worst_of(parts, of_loss, apart, whole, kRoundings * rounding);
  }
  const std::string failed =
      worst.difference <= allowed
          ? ""
          : text("pack.verify_steps: step ", planned.number, ": shared and unshared disagree by ", worst.difference,
                 " (relative) in ", worst.where, ", more than ", allowed,
                 ": please report this, and train with pack.share_prefix: false");
  throw_together(failed, world);
  log.info(text("verified step ", planned.number, ": shared against unshared differs by ", worst.difference,
                " at most (", worst.where, ")"));
}

}  // namespace fpdist::trainer
