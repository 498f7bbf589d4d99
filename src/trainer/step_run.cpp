// One pack on one rank: rows to hidden rows, on the last run of layers to edges and loss, and back.

#include "src/trainer/step_run.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "fpdist/core/error.hpp"
#include "fpdist/plan/schedule.hpp"

namespace fpdist::trainer {
namespace {

/// [S_c] from per-row values [R] of the rows that reached the head.
at::Tensor row_to_score(const at::Tensor& per_row, const Pack& pack) {
  return per_row.index_select(0, pack.tensors.score_row);
}

/// The op that completes each run's gradients; past the end for a run without packs.
std::vector<size_t> last_uses(std::span<const plan::Op> ops, plan::OpKind kind, size_t chunks) {
  std::vector<size_t> last(chunks, ops.size());
  for (size_t i = 0; i < ops.size(); ++i)
    if (ops[i].kind == kind) last[static_cast<size_t>(ops[i].chunk)] = i;
  return last;
}

}  // namespace

StepRun::StepRun(Trainer::Impl& trainer, std::span<const data::Group> groups, const plan::StepPlan& plan, bool share,
                 std::span<const plan::Op> ops, StepSums& sums)
    : trainer_(trainer),
      plan_(plan),
      ops_(ops),
      last_use_(last_uses(
          ops,
          plan.schedule == plan::Schedule::kZeroBubble ? plan::OpKind::kBackwardWeight : plan::OpKind::kBackwardInput,
          trainer.policy.size())),
      sums_(sums),
      packs_(trainer, groups, plan, share) {
  trainer_.flat.zero_gradients();
  trainer_.reducer.begin();
}

void StepRun::before(size_t i) {
  const plan::Op& op = ops_[i];
  trainer_.world.set_position(
      text("step ", trainer_.steps_done + 1, ", op ", i + 1, " of ", ops_.size(), ": ", plan::to_string(op)));
  trainer_.is_last_use = i == last_use_[static_cast<size_t>(op.chunk)];
}

bool StepRun::rides(const Pack& pack) const { return !trainer_.reference.empty() && pack.lacks_reference(); }

at::Tensor StepRun::buffer(const plan::Op& op, bool gradient) {
  const Pack& pack = packs_.at(op.pack);
  std::vector<int64_t> shape{pack.tensors.own_rows(trainer_.mesh.at().tp), trainer_.model_config.hidden_size};
  if (!gradient && rides(pack)) shape.insert(shape.begin(), 2);
  return at::empty(shape, scalar_type(trainer_.config.model.dtype));
}

at::Tensor StepRun::forward(const plan::Op& op, const at::Tensor& input) {
  const Pack& pack = packs_.at(op.pack);
  const auto chunk = static_cast<size_t>(op.chunk);
  at::Tensor policy_input = input, reference_hidden;
  if (rides(pack)) {  // the reference's rows travel behind the policy's
    if (input.defined()) policy_input = input.select(0, 0).clone();
    const at::NoGradGuard frozen;
    reference_hidden =
        trainer_.reference[chunk]->forward(op.pack, pack.tensors, input.defined() ? input.select(0, 1) : at::Tensor());
  }
  const at::Tensor hidden = trainer_.policy[chunk]->forward(op.pack, pack.tensors, policy_input);
  if (!trainer_.policy[chunk]->options().layers.head)
    return reference_hidden.defined() ? at::stack({hidden.detach(), reference_hidden}) : hidden;
  at_loss_[op.pack] = take_loss(pack, hidden, reference_hidden);
  return {};
}

void StepRun::score_head(const Pack& pack, const at::Tensor& hidden, loss::Edges& edges, AtLoss& at) {
  const parallel::PackTensors& tensors = pack.tensors;
  at.value = trainer_.policy.back()->scores(hidden, tensors);
  // Over tp, then over cp: places count tp ranks innermost.
  at::Tensor gathered = at.value.detach().contiguous();
  const auto& counts = tensors.sample_count;
  const auto tp = static_cast<size_t>(trainer_.mesh.shape().tp);
  const auto first = counts.begin() + static_cast<std::ptrdiff_t>(tp) * trainer_.mesh.at().cp;
  const std::vector<int64_t> of_tp(first, first + static_cast<std::ptrdiff_t>(tp));
  std::vector<int64_t> of_cp;
  for (size_t c = 0; c < counts.size(); c += tp) {
    of_cp.push_back(0);
    for (size_t t = 0; t < tp; ++t) of_cp.back() += counts[c + t];
  }
  at::Tensor of_rank = at::empty({of_cp[static_cast<size_t>(trainer_.mesh.at().cp)]}, gathered.options());
  trainer_.mesh.tp().all_gather_v(gathered, of_rank, of_tp);
  at::Tensor all = at::empty({tensors.samples}, gathered.options());
  trainer_.mesh.cp().all_gather_v(of_rank, all, of_cp);
  at.all = all.index_select(0, tensors.sample_place).set_requires_grad(true);
  edges.score = at.all;
}

void StepRun::language_head(const Pack& pack, const at::Tensor& hidden, const at::Tensor& reference_hidden,
                            loss::Edges& edges, AtLoss& at) {
  const parallel::PackTensors& tensors = pack.tensors;
  const model::Transformer& policy = *trainer_.policy.back();
  const ops::SelectedLogprob head = policy.logprobs(hidden, tensors);
  at.value = head.logp;
  std::vector<at::Tensor> columns{
      head.logp.detach(), row_to_score(head.entropy.detach(), pack),
      row_to_score(head.argmax, pack).eq(tensors.score_target).to(edges.length.scalar_type())};
  if (trainer_.config.method == Method::kDpo)
    columns.push_back(row_to_score(policy.mean_logits(hidden, tensors), pack));
  if (reference_hidden.defined()) {
    const at::NoGradGuard frozen;
    columns.push_back(trainer_.reference.back()->logprobs(reference_hidden, tensors).logp);
  }
  const at::Tensor all = all_scores(at::stack(columns, 1), pack, trainer_.mesh);
  at.all = all.select(1, 0).clone().set_requires_grad(true);
  const auto to_edges = [&](const at::Tensor& scores) { return scores.index_select(0, tensors.edge_score); };
  edges.logp = to_edges(at.all);
  edges.entropy = to_edges(all.select(1, 1));
  edges.correct = to_edges(all.select(1, 2));
  if (trainer_.config.method == Method::kDpo) edges.mean_logit = to_edges(all.select(1, 3));
  if (reference_hidden.defined()) edges.ref_logp = to_edges(all.select(1, all.size(1) - 1));
}

StepRun::AtLoss StepRun::take_loss(const Pack& pack, const at::Tensor& hidden, const at::Tensor& reference_hidden) {
  AtLoss at{.hidden = hidden, .value = {}, .all = {}, .loss = {}};
  loss::Edges edges = data_edges(pack, ops::accumulate_dtype(scalar_type(trainer_.config.model.dtype)));
  if (trainer_.config.method == Method::kReward)
    score_head(pack, hidden, edges, at);
  else
    language_head(pack, hidden, reference_hidden, edges, at);
  const loss::LossOutput output = trainer_.loss(edges, plan_.totals);
  at.loss = output.loss;
  const double value = output.loss.item<double>();
  if (trainer_.mesh.at().cp == 0 && trainer_.mesh.at().tp == 0) {  // every rank of a pack has the same loss
    sums_.metrics.add(output.metrics);
    sums_.metrics.add("loss", loss::Combine::kSum, value);
  }
  if (!std::isfinite(value) && sums_.bad_pack.empty())
    sums_.bad_pack = text("the loss is ", value, " at step ", trainer_.steps_done + 1, " on rank ",
                          trainer_.world.rank(), " in the pack of samples (group.index) ", pack.samples());
  return at;
}

/// Of the own run of hidden rows; zeros when no edge of the pack depends on them.
at::Tensor StepRun::loss_gradient(int number) {
  const AtLoss at = std::move(at_loss_.extract(number).mapped());
  const Pack& pack = packs_.at(number);
  if (at.loss.requires_grad()) at.loss.backward();
  const at::Tensor all = at.all.grad().defined() ? at.all.grad() : at::zeros_like(at.all);
  const bool by_sample = trainer_.config.method == Method::kReward;
  const at::Tensor own = all.index_select(0, by_sample ? pack.tensors.own_sample : pack.tensors.own_score);
  at.value.backward(own);  // also without own scores: with tp the head communicates
  const at::Tensor& grad = at.hidden.grad();
  return grad.defined() ? grad : at::zeros_like(at.hidden);
}

at::Tensor StepRun::backward_input(const plan::Op& op, const at::Tensor& grad_output) {
  const auto chunk = static_cast<size_t>(op.chunk);
  const at::Tensor grad = trainer_.policy[chunk]->options().layers.head ? loss_gradient(op.pack) : grad_output;
  const at::Tensor input_grad = trainer_.policy[chunk]->backward_input(op.pack, grad);
  trainer_.flat.fold_gradients();
  return input_grad;
}

void StepRun::backward_weight(const plan::Op& op) {
  trainer_.policy[static_cast<size_t>(op.chunk)]->backward_weight(op.pack);
}

void StepRun::reduce_gradients(const plan::Op& op) {
  trainer_.reducer.complete(trainer_.policy[static_cast<size_t>(op.chunk)]->parameters());
}

void StepRun::optimizer_step() {
  trainer_.stop_on_bad_loss(sums_);
  trainer_.finish_gradients();
  trainer_.update(sums_);
}

}  // namespace fpdist::trainer
