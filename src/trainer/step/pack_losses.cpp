#include "src/trainer/step/pack_losses.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::trainer {
namespace {

/// [S_c] from per-row values [R] of the rows that reached the head.
at::Tensor row_to_score(const at::Tensor& per_row, const parallel::HeadRows& head) {
  return per_row.index_select(0, head.score_row);
}

/// [S_c] log of the sum of squared probabilities. With z the logits and Z(z) their log-sum-exp it is Z(2 z) - 2 Z(z),
/// and a log-prob is z_t - Z: two of z less one of 2 z, whose logits are those of twice the hidden rows.
at::Tensor log_sum_sq(const model::Transformer& policy, const at::Tensor& hidden, const parallel::HeadRows& head,
                      const at::Tensor& logp) {
  const at::NoGradGuard no_grad;
  return 2 * logp.detach() - policy.logprobs(hidden.detach() * 2, head).logp;
}

}  // namespace

PackLosses::PackLosses(const StepParts& parts, const plan::StepTotals& totals, const loss::View& step,
                       StepResults& results)
    : parts_(parts), totals_(totals), step_(step), results_(results) {
  loss::Edges none = empty_edges(parts_.job);
  none.step = step_;
  results_.metrics.add(parts_.objective(none, totals_).metrics);
  results_.metrics.add("loss", loss::Combine::kSum, 0.0);
}

void PackLosses::forward(const plan::Op& op, const Pack& pack, const at::Tensor& hidden,
                         const at::Tensor& reference_hidden, bool is_next) {
  const parallel::HeadRows& head = pack.tensors.slice[index(op.slice)].head;
  AtLoss& at = at_loss_[op.pack];
  at.slice.push_back(scores_samples() ? score_head(head, hidden)
                                      : language_head(head, hidden, reference_hidden, is_next));
  if (at.slice.size() < pack.tensors.slice.size()) return;
  take_loss(op, pack, reference_hidden.defined(), at);
  if (!at::GradMode::is_enabled()) at_loss_.erase(op.pack);
}

PackLosses::Slice PackLosses::score_head(const parallel::HeadRows& head, const at::Tensor& hidden) const {
  const at::Tensor value = parts_.weights.runs().back()->scores(hidden, head);
  return {.hidden = hidden, .value = {value}, .sent = value.detach(), .gradient = {}};
}

PackLosses::Slice PackLosses::language_head(const parallel::HeadRows& head, const at::Tensor& hidden,
                                            const at::Tensor& reference_hidden, bool is_next) {
  const model::Transformer& policy = *parts_.weights.runs().back();
  const loss::Needs& needs = parts_.objective.needs();
  loss::ScoreColumns scores;
  if (reference_hidden.defined()) {  // ahead of the policy's, whose logits may stay in memory
    const at::NoGradGuard frozen;
    scores.ref_logp = parts_.reference.runs().back()->logprobs(reference_hidden, head).logp;
  }
  const ops::SelectedLogprob selected = policy.logprobs(hidden, head, is_next);
  scores.logp = selected.logp;
  std::vector<at::Tensor> value{selected.logp};
  if (needs.entropy) scores.entropy = row_to_score(selected.entropy.detach(), head);
  if (needs.entropy_gradient) value.push_back(row_to_score(selected.entropy, head));
  if (needs.base_kl) {
    check(reference_hidden.defined(), "the loss compares with a reference that does not run");
    const at::Tensor kl = policy.base_kl(hidden, *parts_.reference.runs().back(), reference_hidden, head);
    value.push_back(scores.base_kl = row_to_score(kl, head));
  }
  if (needs.correct)
    scores.correct = row_to_score(selected.argmax, head).eq(head.score_target).to(selected.logp.scalar_type());
  if (needs.mean_logit) {
    if (!mean_head_row_.defined()) mean_head_row_ = policy.mean_head_row();
    scores.mean_logit = row_to_score(policy.mean_logits(hidden, head, mean_head_row_), head);
  }
  if (needs.log_sum_sq) scores.log_sum_sq = log_sum_sq(policy, hidden, head, selected.logp);
  return {.hidden = hidden, .value = std::move(value), .sent = loss::stack(scores), .gradient = {}};
}

std::vector<at::Tensor> PackLosses::gather_samples(const Pack& pack, const at::Tensor& own, loss::Edges& edges) const {
  // Over tp, then over cp: places count tp ranks innermost.
  const parallel::LossPlaces& places = pack.tensors.places;
  const comm::Mesh& mesh = parts_.job.mesh;
  const auto& counts = places.sample_count;
  const auto tp = index(mesh.shape().tp);
  std::vector<int64_t> of_tp, of_cp;
  for (size_t c = 0; c < counts.size(); c += tp) {
    of_cp.push_back(std::accumulate(&counts[c], &counts[c] + tp, int64_t{0}));
    if (c == tp * index(mesh.at().cp)) of_tp.assign(&counts[c], &counts[c] + tp);
  }
  at::Tensor of_rank = at::empty({of_cp[index(mesh.at().cp)]}, own.options());
  mesh.tp().all_gather_v(own, of_rank, of_tp);
  at::Tensor all = at::empty({std::accumulate(of_cp.begin(), of_cp.end(), int64_t{0})}, own.options());
  mesh.cp().all_gather_v(of_rank, all, of_cp);
  const at::Tensor leaf = all.index_select(0, places.sample_place).set_requires_grad(true);
  edges.score = leaf;
  return {leaf};
}

std::vector<at::Tensor> PackLosses::gather_scores(const Pack& pack, const at::Tensor& own, bool has_reference,
                                                  loss::Edges& edges) const {
  loss::Needs sent = parts_.objective.needs();
  sent.reference = has_reference;
  loss::ScoreColumns scores = loss::unstack(all_scores(own, pack, parts_.job.mesh), sent);
  std::vector<at::Tensor> leaves;
  const auto make_leaf = [&](at::Tensor& column) { leaves.push_back(column = column.clone().set_requires_grad(true)); };
  make_leaf(scores.logp);
  if (sent.entropy_gradient) make_leaf(scores.entropy);
  if (sent.base_kl) make_leaf(scores.base_kl);
  loss::give_to_edges(scores, pack.tensors.places.edge_score, edges);
  return leaves;
}

void PackLosses::take_loss(const plan::Op& op, const Pack& pack, bool has_reference, AtLoss& at) {
  std::vector<at::Tensor> sent;
  for (const Slice& slice : at.slice) sent.push_back(slice.sent);
  const at::Tensor own = at::cat(sent);
  loss::Edges edges = data_edges(pack, parts_.objective.needs(), parts_.job);
  edges.step = step_;
  at.leaf = scores_samples() ? gather_samples(pack, own, edges) : gather_scores(pack, own, has_reference, edges);
  const loss::LossOutput output = parts_.objective(edges, totals_);
  at.loss = output.loss;
  results_.loss.push_back(output.loss.detach());
  results_.packs.push_back(text("pack ", op.pack, ", samples (group.index) ", pack.samples()));
  const Coordinates& rank = parts_.job.mesh.at();
  if (rank.cp != 0 || rank.tp != 0) return;  // every rank of a pack has the same loss
  results_.metrics.add(output.metrics);
  results_.metrics.add({{"loss", {loss::Combine::kSum, output.loss.detach(), {}}}});
}

void PackLosses::split_gradient(const Pack& pack, AtLoss& at) const {
  if (at.loss.requires_grad()) at.loss.backward();
  at.loss.reset();
  const parallel::LossPlaces& places = pack.tensors.places;
  for (const at::Tensor& leaf : at.leaf) {
    const at::Tensor all = leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf);
    const at::Tensor own = all.index_select(0, scores_samples() ? places.own_sample : places.own_score);
    int64_t first = 0;
    for (Slice& slice : at.slice) {
      const int64_t count = slice.value.front().size(0);
      slice.gradient.push_back(own.narrow(0, first, count));
      first += count;
    }
  }
}

at::Tensor PackLosses::backward(const plan::Op& op, const Pack& pack) {
  AtLoss& at = at_loss_.at(op.pack);
  if (at.loss.defined()) split_gradient(pack, at);
  const Slice slice = std::exchange(at.slice[index(op.slice)], {});
  if (op.slice == 0) at_loss_.erase(op.pack);
  torch::autograd::backward(slice.value, slice.gradient);  // also without own scores: with tp the head communicates
  const at::Tensor& gradient = slice.hidden.grad();
  return gradient.defined() ? gradient : at::zeros_like(slice.hidden);
}

}  // namespace fpdist::trainer
