#include "src/trainer/step/step_results.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/comm/broadcast_text.hpp"

namespace fpdist::trainer {
namespace {

/// "" where all losses are finite.
std::string bad_loss(const StepResults& results, const std::vector<double>& losses, const Job& job, int64_t step) {
  for (size_t i = 0; i < results.loss.size(); ++i)
    if (!std::isfinite(losses[i]))
      return text("the loss is ", losses[i], " at step ", step, " on rank ", job.world.rank(),
                  " in the pack of samples (group.index) ", results.samples[i]);
  return "";
}

/// The first parameter whose gradient here is not finite; "" where all are.
std::string bad_parameter(const Weights& weights) {
  for (const GradientPart& part : weights.gradients())
    if (!part.value.isfinite().all().item<bool>()) return weights.all()[part.parameter]->name;
  return "";
}

}  // namespace

void throw_together(const std::string& own, comm::Communicator& world) {
  at::Tensor speaker = at::full({1}, own.empty() ? -1 : world.rank(), at::kLong);
  world.all_reduce(speaker, comm::ReduceOp::kMax);
  const auto root = static_cast<int>(speaker.item<int64_t>());
  if (root < 0) return;
  throw NumericsError(comm::broadcast_text(own, root, world));
}

double read_results(StepResults& results, const Weights& weights, const Job& job, int64_t step) {
  std::vector<at::Tensor> numbers = results.loss;
  if (results.updated) numbers.push_back(results.updated->stopped), numbers.push_back(results.updated->grad_norm);
  const std::vector<double> read = results.metrics.fetch(*job.device, numbers);
  const size_t losses = results.loss.size();
  if (results.updated && read[losses] == 0) return read.back();
  throw_together(bad_loss(results, read, job, step), job.mesh.world());
  if (!results.updated) return 0;
  const auto message = [&](const std::string& where) {
    return text("the gradient norm is ", read.back(), " at step ", step, ", first in ", where,
                ": lower optim.learning_rate, or look at the step's samples");
  };
  const std::string name = bad_parameter(weights);
  throw_together(name.empty() ? "" : message(name), job.mesh.world());
  throw NumericsError(message("an overflowing sum of squares"));
}

}  // namespace fpdist::trainer
