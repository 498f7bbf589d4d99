#include "src/trainer/weights/weights.hpp"

#include <ATen/ATen.h>

#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "src/optim/clip.hpp"
#include "src/optim/peak_rates.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::trainer {
namespace {

/// Ranks of one tp axis that hold the same KV heads: all of it apart while there are heads for every rank.
std::unique_ptr<comm::Communicator> split_kv_replicas(const Job& job) {
  const int rank = job.mesh.at().tp;
  return job.mesh.tp().split("kv_replicas", rank / arch::key_value_replicas(job.model, job.mesh.shape().tp), rank);
}

std::vector<optim::AdamW> make_optimizers(ops::FlatParameters& flat, const parallel::ZeroReducer& reducer,
                                          const optim::OptimOptions& options) {
  const optim::PeakRates rates(options);
  std::vector<std::vector<optim::PeakSpan>> peaks(reducer.pieces().size());
  for (const parallel::PieceOfParameter& part : reducer.parts())
    peaks[part.piece].push_back({.end = part.range.end - reducer.pieces()[part.piece].begin,
                                 .learning_rate = rates.of(flat.parameters()[part.parameter]->name)});
  std::vector<optim::AdamW> all;
  for (size_t i = 0; i < peaks.size(); ++i) {
    const parallel::FlatRange& piece = reducer.pieces()[i];
    all.emplace_back(flat.value().narrow(0, piece.begin, piece.size()), piece.begin, flat.decayed_size(), options,
                     peaks[i]);
  }
  return all;
}

/// The embedding on the first stage and its copy that serves as the head on the last.
ops::ParameterPtr tied_copy(const std::vector<ops::ParameterPtr>& parameters) {
  for (const auto& parameter : parameters)
    if (parameter->name == model::kEmbeddingWeight) return parameter;
  throw std::logic_error("a stage with a tied embedding has none");
}

/// Both ends hold the same sum afterwards: first stage's share + last stage's.
void sum_tied_gradients(const std::vector<ops::ParameterPtr>& parameters, comm::Communicator& pp) {
  const int last = pp.size() - 1, other = last - pp.rank();
  if (pp.rank() != 0 && pp.rank() != last) return;
  at::Tensor& own = tied_copy(parameters)->main_grad;
  at::Tensor theirs = at::empty_like(own);
  pp.group_begin();
  pp.send(own, other);
  pp.receive(theirs, other);
  pp.group_end();
  own.add_(theirs);  // two terms: the order does not matter
}

/// All copies of a weight hold the sum of their gradients afterwards, added up by run, then by stage.
void sum_copied_gradients(const std::vector<ops::ParameterPtr>& parameters, const arch::Model& model,
                          comm::Communicator& pp) {
  std::map<std::string, std::vector<at::Tensor>> copies;  // the same names on every stage
  for (const auto& parameter : parameters)
    if (is_copied(model, parameter->name)) copies[parameter->name].push_back(parameter->main_grad);
  if (copies.empty()) return;
  std::vector<at::Tensor> sums;
  for (const auto& [name, own] : copies) {
    sums.push_back(own.front().flatten().clone());
    for (size_t run = 1; run < own.size(); ++run) sums.back().add_(own[run].flatten());
  }
  at::Tensor all = at::cat(sums);
  pp.all_reduce(all);
  int64_t at = 0;
  for (auto& [name, own] : copies) {
    const at::Tensor sum = all.narrow(0, at, own.front().numel());
    for (at::Tensor& gradient : own) gradient.copy_(sum.view_as(gradient));
    at += sum.numel();
  }
}

}  // namespace

Weights::Weights(const Job& job)
    : job_(job),
      runs_(load_model(job.config, job.model, job.mesh, job.device->where())),
      ties_stages_(ties_stages(job.config, job.model)),
      ordered_(order_parameters(runs_, ties_stages_, job.mesh.shape().pp > 1)),
      flat_(ordered_.all),
      reducer_(flat_, job.mesh.dp_cp(), ordered_.late),
      optimizer_(make_optimizers(flat_, reducer_, job.config.optim)),
      kv_replicas_(split_kv_replicas(job)) {
  reducer_.set_order_of_use(ordered_.by_use);
  if (job.trained_dtype() != job.sum_dtype() && !job.config.model.path.empty()) set_unrounded_masters();
  for (const optim::AdamW& optimizer : optimizer_) first_.push_back(sample_of(optimizer.master()).clone());
}

void Weights::set_unrounded_masters() {
  read_unrounded(job_.config, job_.model, all());
  const std::vector<at::Tensor> pieces = reducer_.gradients();
  for (size_t i = 0; i < pieces.size(); ++i) optimizer_[i].set_master(pieces[i]);
  flat_.main_grad().zero_();
}

void Weights::begin_step() {
  flat_.begin_gradients();
  reducer_.begin();
  has_gradients_ = true;
}

std::optional<Exchanged> Weights::before_use(std::span<const ops::ParameterPtr> parameters) {
  if (!reducer_.is_under_way(parameters)) return std::nullopt;
  const size_t begin = job_.device->mark();
  reducer_.need(parameters);
  return Exchanged{.begin = begin, .end = job_.device->mark()};
}

void Weights::complete(std::span<const ops::ParameterPtr> parameters) {
  flat_.fold_gradients();
  reducer_.complete(parameters);
}

void Weights::sum_gradients() {
  flat_.settle_gradients(0, all().size());
  parallel::sum_replicated_gradients(ordered_.all, job_.mesh.tp(), *kv_replicas_);
  if (ties_stages_) sum_tied_gradients(ordered_.all, job_.mesh.pp());
  if (job_.mesh.shape().pp > 1) sum_copied_gradients(ordered_.all, job_.model, job_.mesh.pp());
  reducer_.finish();
}

std::vector<GradientPart> Weights::gradients() const {
  const std::vector<at::Tensor> pieces = reducer_.gradients();
  std::vector<GradientPart> parts;
  for (const parallel::PieceOfParameter& part : reducer_.parts())
    parts.push_back({.parameter = part.parameter,
                     .value = pieces[part.piece].narrow(0, part.range.begin - reducer_.pieces()[part.piece].begin,
                                                        part.range.size())});
  return parts;
}

Updated Weights::update(const UpdateRequest& request) {
  comm::Device& device = *job_.device;
  const comm::Mesh& mesh = job_.mesh;
  Updated updated;
  const size_t sums_begin = device.mark();
  sum_gradients();
  updated.exchanges.push_back({.begin = sums_begin, .end = device.mark()});

  std::vector<at::Tensor> counted;  // what no other rank counts
  for (const GradientPart& part : gradients())
    if (all()[part.parameter]->sharding.counted) counted.push_back(part.value);
  updated.grad_norm = optim::global_norm(counted, mesh.world(), device.where());
  updated.not_finite = updated.grad_norm.isfinite().logical_not().to(at::kFloat).reshape({1});
  for (const at::Tensor& loss : request.losses) updated.not_finite.logical_or_(loss.isfinite().logical_not());
  mesh.world().all_reduce(updated.not_finite, comm::ReduceOp::kMax);
  updated.stopped = updated.not_finite.logical_or(updated.grad_norm.gt(request.most_norm)).to(at::kFloat);
  // Where nothing is updated the gradients stay what they are: which of them is not finite is still to be seen.
  const at::Tensor coefficient = optim::clip_coefficient(updated.grad_norm, job_.config.optim.max_grad_norm)
                                     .masked_fill(updated.stopped.squeeze(0).gt(0), 1.0);
  const std::vector<at::Tensor> pieces = reducer_.gradients();
  end_loan();
  for (const size_t i : reducer_.order_of_use()) {  // a piece travels while the next one is updated
    at::Tensor gradient = pieces[i];
    optimizer_[i].step(gradient.mul_(coefficient), request.factor, updated.stopped);
    if (mesh.dp_cp().size() == 1) continue;
    const size_t begin = device.mark();
    reducer_.start_gather(i);
    updated.exchanges.push_back({.begin = begin, .end = device.mark()});
  }
  return updated;
}

void Weights::take_back() {
  for (optim::AdamW& optimizer : optimizer_) optimizer.take_back();
}

void Weights::lend(std::function<void()> end) {
  end_loan();
  lent_ = std::move(end);
}

void Weights::end_loan() {
  if (lent_) std::exchange(lent_, {})();
}

void Weights::gather_masters() {
  settle();
  flat_.settle_gradients(0, all().size());
  const std::vector<at::Tensor> pieces = reducer_.gradients();
  for (size_t i = 0; i < pieces.size(); ++i) at::Tensor(pieces[i]).copy_(optimizer_[i].master());
  has_gradients_ = false;
  reducer_.gather_gradients();
}

void Weights::restore(int64_t updates, const std::function<void(const TrainedWeight&)>& fill) {
  end_loan();
  visit(fill);
  for (optim::AdamW& optimizer : optimizer_) optimizer.go_on_after(updates);
  reducer_.gather_values();
}

Rounding Weights::rounding() {
  settle();
  at::Tensor counts = at::zeros({2}, job_.tensor_options(at::kLong));
  for (size_t i = 0; i < first_.size(); ++i) counts += moved_and_lost(first_[i], sample_of(optimizer_[i].master()));
  job_.mesh.world().all_reduce(counts);
  const at::Tensor all = job_.device->download(counts);
  return {.moved = all[0].item<int64_t>(), .lost = all[1].item<int64_t>()};
}

ops::FlatParameters& Weights::parameters() {
  end_loan();  // values may be the masters
  settle();
  return flat_;
}

void Weights::visit(const std::function<void(const TrainedWeight&)>& visitor) {
  settle();
  std::vector<parallel::PieceOfParameter> updated_here(all().size());  // one piece a parameter at most
  for (const parallel::PieceOfParameter& part : reducer_.parts()) updated_here[part.parameter] = part;
  for (size_t p = 0; p < updated_here.size(); ++p) {
    const ops::Parameter& parameter = *all()[p];
    const auto& [piece, number, range] = updated_here[p];
    const optim::AdamW& optimizer = optimizer_.at(piece);
    const auto part_of = [&, from = range.begin - reducer_.pieces()[piece].begin](const at::Tensor& shard) {
      return range.size() == 0 ? shard.narrow(0, 0, 0) : shard.narrow(0, from, range.size());
    };
    visitor({.name = parameter.name,
             .sharding = parameter.sharding,
             .value = parameter.value.detach(),
             .gradient = parameter.main_grad,
             .begin = range.size() == 0 ? 0 : range.begin - flat_.offset(p),
             .master = part_of(optimizer.master()),
             .exp_avg = part_of(optimizer.exp_avg()),
             .exp_avg_sq = part_of(optimizer.exp_avg_sq())});
  }
}

}  // namespace fpdist::trainer
