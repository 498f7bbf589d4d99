#include "src/trainer/step/step_results.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/comm/broadcast_text.hpp"

namespace fpdist::trainer {

void throw_together(const std::string& own, comm::Communicator& world) {
  at::Tensor speaker = at::full({1}, own.empty() ? -1 : world.rank(), at::kLong);
  world.all_reduce(speaker, comm::ReduceOp::kMax);
  const auto root = static_cast<int>(speaker.item<int64_t>());
  if (root < 0) return;
  throw NumericsError(comm::broadcast_text(own, root, world));
}

void read_results(StepResults& results, comm::Device& device) {
  std::vector<at::Tensor> numbers = results.loss;
  if (results.updated)
    for (const at::Tensor& number : {results.updated->stopped, results.updated->not_finite, results.updated->grad_norm})
      numbers.push_back(number);
  const std::vector<double> read = results.metrics.fetch(device, numbers);
  const auto rest = read.begin() + static_cast<std::ptrdiff_t>(results.loss.size());
  results.losses.assign(read.begin(), rest);
  if (!results.updated) return;
  results.grad_norm = rest[2];
  results.end = rest[0] == 0 ? StepEnd::kUpdated : rest[1] == 0 ? StepEnd::kSpike : StepEnd::kNotFinite;
}

std::string bad_loss(const StepResults& results, const Job& job) {
  for (size_t i = 0; i < results.losses.size(); ++i)
    if (!std::isfinite(results.losses[i]))
      return text("the loss is ", std::isnan(results.losses[i]) ? "nan" : text(results.losses[i]), " on rank ",
                  job.world.rank(), " in ", results.packs[i]);
  return "";
}

}  // namespace fpdist::trainer
