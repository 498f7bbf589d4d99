#include "src/trainer/step/pack_run.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "fpdist/core/error.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/core/index.hpp"
#include "src/core/mix.hpp"
#include "src/trainer/step/step_view.hpp"

namespace fpdist::trainer {
namespace {

std::vector<plan::Op> ops_until(RunUntil until, const plan::StepPlan& plan, const Coordinates& at) {
  if (until == RunUntil::kLosses) return plan::forward_ops(plan.pipeline(at.dp))[index(at.pp)];
  std::vector<plan::Op> ops = ops_of(plan, at);
  if (until == RunUntil::kGradients)
    std::erase_if(ops, [](const plan::Op& op) { return op.kind == plan::OpKind::kOptimizerStep; });
  return ops;
}

/// Of dropout: what is no step, an evaluation, has none.
uint64_t masks_of_step(uint64_t seed, int64_t number) {
  return mixed(mixed(seed) + static_cast<uint64_t>(number) * kGolden);
}

}  // namespace

PackRun::PackRun(const StepParts& parts, const PlannedStep& planned, RunUntil until)
    : parts_(parts),
      planned_(planned),
      until_(until),
      ops_(ops_until(until, planned.plan, parts.job.mesh.at())),
      packs_(planned.packs
                 ? planned.packs
                 : std::make_shared<Packs>(parts.job, planned.groups.all, planned.plan, planned.shares_prefix)),
      step_(view_of_step(parts, planned)),
      losses_(parts, planned.plan.totals, step_, results_) {
  if (planned.is_first) first_step_.emplace(parts.job.mesh.world(), "in its first step");
  if (until != RunUntil::kLosses) parts_.weights.begin_step();
  for (const auto& run : parts_.weights.runs()) {
    if (planned.number > 0) run->set_masks(masks_of_step(parts.job.config.train.seed, planned.number));
    run->set_use_hook([this](std::span<const ops::ParameterPtr> used) {
      if (const auto waited = parts_.weights.before_use(used)) weight_waits_.emplace_back(at_, *waited);
    });
    run->set_hook([this](std::span<const ops::ParameterPtr> complete) {
      if (ops_[at_].completes) parts_.weights.complete(complete);
    });
  }
}

PackRun::~PackRun() {
  for (const auto& run : parts_.weights.runs()) run->set_use_hook({}), run->set_hook({}), run->set_masks({});
}

void PackRun::before(size_t i) {
  at_ = i;
  position_ = text(planned_.name, ", op ", i + 1, " of ", ops_.size(), ": ", plan::to_string(ops_[i]));
  parts_.job.world.set_position(position_);
}

at::Tensor PackRun::buffer(const plan::Op& op, bool gradient) {
  const Job& job = parts_.job;
  const Pack& pack = packs_->at(op.pack);
  std::vector<int64_t> shape{pack.tensors.slice[index(op.slice)].rows.own_rows(job.mesh.at().tp),
                             job.model.hidden_size};
  if (!gradient && rides(pack)) shape.insert(shape.begin(), 2);
  return at::empty(shape, job.tensor_options(job.dtype()));
}

at::Tensor PackRun::forward(const plan::Op& op, const at::Tensor& input) {
  const at::AutoGradMode with_graph(until_ != RunUntil::kLosses);
  const Pack& pack = packs_->at(op.pack);
  const parallel::RowsHere& rows = pack.tensors.slice[index(op.slice)].rows;
  at::Tensor policy_input = input, reference_hidden;
  if (rides(pack)) {
    if (input.defined()) policy_input = input.select(0, 0).clone();
    const at::NoGradGuard frozen;
    reference_hidden = parts_.reference.runs()[index(op.run)]->forward(
        op.pack, pack.rows_of_reference(index(op.slice)), input.defined() ? input.select(0, 1) : at::Tensor());
  }
  const at::Tensor hidden = policy(op).forward(op.pack, rows, policy_input);
  if (!policy(op).options().layers.head)
    return reference_hidden.defined() ? at::stack({hidden.detach(), reference_hidden}) : hidden;
  losses_.forward(op, pack, hidden, reference_hidden, is_backward_next());
  return {};
}

bool PackRun::is_backward_next() const {
  if (at_ + 1 == ops_.size()) return false;
  const plan::Op &now = ops_[at_], &next = ops_[at_ + 1];
  return next.kind == plan::OpKind::kBackwardInput && next.pack == now.pack && next.slice == now.slice &&
         next.run == now.run;
}

at::Tensor PackRun::backward_input(const plan::Op& op, const at::Tensor& grad_output) {
  const at::Tensor gradient =
      policy(op).options().layers.head ? losses_.backward(op, packs_->at(op.pack)) : grad_output;
  const at::Tensor input_gradient = policy(op).backward_input(op.pack, op.slice, gradient);
  parts_.weights.fold_gradients();
  return input_gradient;
}

void PackRun::backward_weight(const plan::Op& op) { policy(op).backward_weight(op.pack, op.slice); }

void PackRun::reduce_gradients(const plan::Op& op) { parts_.weights.complete(policy(op).trained()); }

void PackRun::optimizer_step() {
  results_.updated =
      parts_.weights.update({.factor = factor(), .losses = results_.loss, .most_norm = parts_.guard->most_norm()});
}

void PackRun::queued() {
  first_step_.reset();  // a wait for the device may be one for other ranks
  read_results(results_, *parts_.job.device);
}

void PackRun::finished(std::span<const double> seconds) {
  const auto length = [&](const Exchanged& exchanged) { return seconds[exchanged.end] - seconds[exchanged.begin]; };
  if (results_.updated)
    for (const Exchanged& exchanged : results_.updated->exchanges) exchange_seconds_ += length(exchanged);
  for (const auto& [op, waited] : weight_waits_) {
    waits_.push_back({.op = op, .seconds = length(waited)});
    exchange_seconds_ += waits_.back().seconds;
  }
}

}  // namespace fpdist::trainer
