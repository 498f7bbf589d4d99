// NaN and Inf: every rank stops with the same words.

#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {

void throw_together(const std::string& own, comm::Communicator& world) {
  at::Tensor speaker = at::full({1}, own.empty() ? -1 : world.rank(), at::kLong);
  world.all_reduce(speaker, comm::ReduceOp::kMax);
  const auto root = static_cast<int>(speaker.item<int64_t>());
  if (root < 0) return;
  throw NumericsError(comm::broadcast_text(own, root, world));
}

double Trainer::Impl::read_results(StepSums& sums) {
  std::vector<at::Tensor> numbers;
  for (const auto& [value, samples] : sums.pack_loss) numbers.push_back(value);
  const bool updates = sums.grad_norm.defined();  // else this is a verification
  if (updates) numbers.push_back(sums.stopped), numbers.push_back(sums.grad_norm);
  const std::vector<double> read = sums.metrics.fetch(*device, numbers);
  std::string bad_pack;
  for (size_t i = 0; i < sums.pack_loss.size() && bad_pack.empty(); ++i)
    if (!std::isfinite(read[i]))
      bad_pack = text("the loss is ", read[i], " at step ", steps_done + 1, " on rank ", world.rank(),
                      " in the pack of samples (group.index) ", sums.pack_loss[i].second);
  if (updates && read[sums.pack_loss.size()] == 0) return read.back();
  throw_together(bad_pack, mesh.world());
  if (!updates) return 0;
  const double norm = read.back();
  std::string name;
  for (const parallel::PieceOfParameter& part : reducer.parts()) {
    if (flat.main_grad().narrow(0, part.range.begin, part.range.size()).isfinite().all().item<bool>()) continue;
    name = flat.parameters()[part.parameter]->name;
    break;
  }
  const auto message = [&](const std::string& where) {
    return text("the gradient norm is ", norm, " at step ", steps_done + 1, ", first in ", where,
                ": lower optim.learning_rate, or look at the step's samples");
  };
  throw_together(name.empty() ? "" : message(name), mesh.world());
  throw NumericsError(message("an overflowing sum of squares"));
}

}  // namespace fpdist::trainer
