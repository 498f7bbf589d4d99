// NaN and Inf: every rank stops with the same words.

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {

void throw_together(const std::string& own, comm::Communicator& world) {
  constexpr int64_t kLongest = 512;
  at::Tensor speaker = at::full({1}, own.empty() ? -1 : world.rank(), at::kLong);
  world.all_reduce(speaker, comm::ReduceOp::kMax);
  const auto root = static_cast<int>(speaker.item<int64_t>());
  if (root < 0) return;
  at::Tensor message = at::zeros({kLongest}, at::kByte);
  if (world.rank() == root)
    std::copy_n(own.begin(), std::min<size_t>(own.size(), kLongest - 1), message.mutable_data_ptr<uint8_t>());
  world.broadcast(message, root);
  throw NumericsError(reinterpret_cast<const char*>(message.const_data_ptr<uint8_t>()));
}

void Trainer::Impl::stop_on_bad_loss(const StepSums& sums) { throw_together(sums.bad_pack, mesh.world()); }

void Trainer::Impl::stop_on_bad_gradient(double norm) {
  if (std::isfinite(norm)) return;
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
