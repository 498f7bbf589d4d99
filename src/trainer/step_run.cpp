// One pack on one rank: rows to hidden rows, on the last run of layers to edges and loss, and back.

#include "src/trainer/step_run.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/ops/segments.hpp"

namespace fpdist::trainer {
namespace {

/// [S_c] from per-row values [R] of the rows that reached the head.
at::Tensor row_to_score(const at::Tensor& per_row, const parallel::PackTensors& tensors) {
  return per_row.index_select(0, tensors.score_row);
}

}  // namespace

StepRun::StepRun(Trainer::Impl& trainer, const PlannedStep& planned, std::span<const plan::Op> ops, StepSums& sums)
    : trainer_(trainer),
      plan_(planned.plan),
      ops_(ops),
      sums_(sums),
      packs_(planned.packs
                 ? planned.packs
                 : std::make_shared<Packs>(trainer, planned.groups.all, planned.plan, planned.shares_prefix)) {
  trainer_.flat.zero_gradients();
  trainer_.reducer.begin();
  trainer_.weight_waits.clear();
  sums_.metrics.add(trainer_.loss(empty_edges(trainer_), plan_.totals).metrics);
  sums_.metrics.add("loss", loss::Combine::kSum, 0.0);
}

void StepRun::before(size_t i) {
  const plan::Op& op = ops_[i];
  position_ = text("step ", trainer_.steps_done + 1, ", op ", i + 1, " of ", ops_.size(), ": ", plan::to_string(op));
  trainer_.world.set_position(position_);
  trainer_.op_under_way = i;
  trainer_.is_last_use = op.completes;
}

bool StepRun::rides(const Pack& pack) const { return !trainer_.reference.empty() && pack.lacks_reference; }

at::Tensor StepRun::buffer(const plan::Op& op, bool gradient) {
  const Pack& pack = packs_->at(op.pack);
  std::vector<int64_t> shape{pack.slice[static_cast<size_t>(op.slice)].own_rows(trainer_.mesh.at().tp),
                             trainer_.model.hidden_size};
  if (!gradient && rides(pack)) shape.insert(shape.begin(), 2);
  return at::empty(shape, trainer_.tensor_options(scalar_type(trainer_.config.model.dtype)));
}

at::Tensor StepRun::forward(const plan::Op& op, const at::Tensor& input) {
  const Pack& pack = packs_->at(op.pack);
  const parallel::PackTensors& tensors = pack.slice[static_cast<size_t>(op.slice)];
  const auto run = static_cast<size_t>(op.run);
  at::Tensor policy_input = input, reference_hidden;
  if (rides(pack)) {  // the reference's rows travel behind the policy's
    if (input.defined()) policy_input = input.select(0, 0).clone();
    const at::NoGradGuard frozen;
    reference_hidden =
        trainer_.reference[run]->forward(op.pack, tensors, input.defined() ? input.select(0, 1) : at::Tensor());
  }
  const at::Tensor hidden = trainer_.policy[run]->forward(op.pack, tensors, policy_input);
  if (!trainer_.policy[run]->options().layers.head)
    return reference_hidden.defined() ? at::stack({hidden.detach(), reference_hidden}) : hidden;
  AtLoss& at = at_loss_[op.pack];
  at.slice.push_back(trainer_.config.method == Method::kReward ? score_head(tensors, hidden)
                                                               : language_head(tensors, hidden, reference_hidden));
  if (at.slice.size() == pack.slice.size()) take_loss(pack, at);
  return {};
}

StepRun::AtLoss::Slice StepRun::score_head(const parallel::PackTensors& tensors, const at::Tensor& hidden) const {
  const at::Tensor value = trainer_.policy.back()->scores(hidden, tensors);
  return {.hidden = hidden, .value = value, .columns = value.detach(), .grad = {}};
}

StepRun::AtLoss::Slice StepRun::language_head(const parallel::PackTensors& tensors, const at::Tensor& hidden,
                                              const at::Tensor& reference_hidden) const {
  const model::Transformer& policy = *trainer_.policy.back();
  const ops::SelectedLogprob head = policy.logprobs(hidden, tensors);
  std::vector<at::Tensor> columns{
      head.logp.detach(), row_to_score(head.entropy.detach(), tensors),
      row_to_score(head.argmax, tensors).eq(tensors.score_target).to(head.logp.scalar_type())};
  if (trainer_.config.method == Method::kDpo)
    columns.push_back(row_to_score(policy.mean_logits(hidden, tensors), tensors));
  if (reference_hidden.defined()) {
    const at::NoGradGuard frozen;
    columns.push_back(trainer_.reference.back()->logprobs(reference_hidden, tensors).logp);
  }
  return {.hidden = hidden, .value = head.logp, .columns = at::stack(columns, 1), .grad = {}};
}

void StepRun::gather_samples(const Pack& pack, const at::Tensor& own, loss::Edges& edges, AtLoss& at) const {
  // Over tp, then over cp: places count tp ranks innermost.
  const parallel::PackTensors& tensors = pack.slice.front();
  const auto& counts = tensors.sample_count;
  const auto tp = static_cast<size_t>(trainer_.mesh.shape().tp);
  std::vector<int64_t> of_tp, of_cp;
  for (size_t c = 0; c < counts.size(); c += tp) {
    of_cp.push_back(std::accumulate(&counts[c], &counts[c] + tp, int64_t{0}));
    if (c == tp * static_cast<size_t>(trainer_.mesh.at().cp)) of_tp.assign(&counts[c], &counts[c] + tp);
  }
  at::Tensor of_rank = at::empty({of_cp[static_cast<size_t>(trainer_.mesh.at().cp)]}, own.options());
  trainer_.mesh.tp().all_gather_v(own, of_rank, of_tp);
  at::Tensor all = at::empty({tensors.samples}, own.options());
  trainer_.mesh.cp().all_gather_v(of_rank, all, of_cp);
  at.all = all.index_select(0, tensors.sample_place).set_requires_grad(true);
  edges.score = at.all;
}

void StepRun::gather_scores(const Pack& pack, const at::Tensor& own, loss::Edges& edges, AtLoss& at) const {
  const at::Tensor all = all_scores(own, pack, trainer_.mesh);
  at.all = all.select(1, 0).clone().set_requires_grad(true);
  const auto to_edges = [&](const at::Tensor& scores) { return ops::pick_rows(scores, pack.slice.front().edge_score); };
  edges.logp = to_edges(at.all);
  edges.entropy = to_edges(all.select(1, 1));
  edges.correct = to_edges(all.select(1, 2));
  if (trainer_.config.method == Method::kDpo) edges.mean_logit = to_edges(all.select(1, 3));
  if (rides(pack)) edges.ref_logp = to_edges(all.select(1, all.size(1) - 1));
}

void StepRun::take_loss(const Pack& pack, AtLoss& at) {
  std::vector<at::Tensor> slices;
  for (const AtLoss::Slice& slice : at.slice) slices.push_back(slice.columns);
  const at::Tensor own = at::cat(slices);
  loss::Edges edges = data_edges(pack, trainer_);
  if (trainer_.config.method == Method::kReward)
    gather_samples(pack, own, edges, at);
  else
    gather_scores(pack, own, edges, at);
  const loss::LossOutput output = trainer_.loss(edges, plan_.totals);
  at.loss = output.loss;
  sums_.pack_loss.emplace_back(output.loss.detach(), pack.samples());
  if (trainer_.mesh.at().cp == 0 && trainer_.mesh.at().tp == 0) {  // every rank of a pack has the same loss
    sums_.metrics.add(output.metrics);
    sums_.metrics.add({{"loss", {loss::Combine::kSum, output.loss.detach(), {}}}});
  }
}

/// Of the own run of the slice's hidden rows; zeros when no edge of the pack depends on them.
at::Tensor StepRun::loss_gradient(const plan::Op& op) {
  AtLoss& at = at_loss_.at(op.pack);
  if (at.loss.defined()) {  // the pack's first backward: the loss's gradient for every slice
    if (at.loss.requires_grad()) at.loss.backward();
    at.loss.reset();
    const at::Tensor all = at.all.grad().defined() ? at.all.grad() : at::zeros_like(at.all);
    const parallel::PackTensors& tensors = packs_->at(op.pack).slice.front();
    const bool by_sample = trainer_.config.method == Method::kReward;
    const at::Tensor own = all.index_select(0, by_sample ? tensors.own_sample : tensors.own_score);
    int64_t first = 0;
    for (AtLoss::Slice& slice : at.slice) {
      slice.grad = own.narrow(0, first, slice.value.size(0));
      first += slice.value.size(0);
    }
  }
  const AtLoss::Slice slice = std::exchange(at.slice[static_cast<size_t>(op.slice)], {});
  if (op.slice == 0) at_loss_.erase(op.pack);
  slice.value.backward(slice.grad);  // also without own scores: with tp the head communicates
  const at::Tensor& grad = slice.hidden.grad();
  return grad.defined() ? grad : at::zeros_like(slice.hidden);
}

at::Tensor StepRun::backward_input(const plan::Op& op, const at::Tensor& grad_output) {
  const auto run = static_cast<size_t>(op.run);
  const at::Tensor grad = trainer_.policy[run]->options().layers.head ? loss_gradient(op) : grad_output;
  const at::Tensor input_grad = trainer_.policy[run]->backward_input(op.pack, op.slice, grad);
  trainer_.flat.fold_gradients();
  return input_grad;
}

void StepRun::backward_weight(const plan::Op& op) {
  trainer_.policy[static_cast<size_t>(op.run)]->backward_weight(op.pack, op.slice);
}

void StepRun::reduce_gradients(const plan::Op& op) {
  trainer_.reducer.complete(trainer_.policy[static_cast<size_t>(op.run)]->parameters());
}

void StepRun::optimizer_step() {
  const size_t begin = trainer_.device->mark();
  trainer_.finish_gradients();
  sums_.exchange.emplace_back(begin, trainer_.device->mark());
  trainer_.update(sums_);
}

void StepRun::queued() { sums_.read_norm = trainer_.read_results(sums_); }

void StepRun::finished(std::span<const double> seconds) {
  for (const auto& [begin, end] : sums_.exchange) sums_.exchange_seconds += seconds[end] - seconds[begin];
  for (const auto& [op, begin, end] : trainer_.weight_waits) {
    sums_.waited.emplace_back(op, seconds[end] - seconds[begin]);
    sums_.exchange_seconds += sums_.waited.back().second;
  }
}

}  // namespace fpdist::trainer
