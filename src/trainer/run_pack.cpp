// One pack on one rank: tokens to hidden rows, hidden rows to edges, edges to loss, and back.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <chrono>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "src/trainer/state.hpp"

namespace fpdist::trainer {
namespace {

using Clock = std::chrono::steady_clock;

struct Pack {
  prefix::TreeLayout layout;
  parallel::PackTensors tensors;
  std::vector<const data::Group*> group;    // [B] group of each sample
  std::vector<const data::Sample*> sample;  // [B]
};

Pack lay_out(std::span<const data::Group> groups, const plan::PackPlan& plan, bool share) {
  Pack pack;
  std::vector<prefix::PackMember> members;
  for (const plan::MemberRef& ref : plan.member) {
    const data::Group& group = groups[static_cast<size_t>(ref.group)];
    const data::Sample& sample = group.sample[static_cast<size_t>(ref.index)];
    members.push_back({group.id, ref.index, &sample});
    pack.group.push_back(&group);
    pack.sample.push_back(&sample);
  }
  pack.layout = prefix::make_layout(members, share);
  pack.tensors = parallel::make_pack_tensors(pack.layout, at::kCPU);
  return pack;
}

at::Tensor from_doubles(const std::vector<double>& values, at::ScalarType dtype) {
  return at::tensor(values, at::kDouble).to(dtype);
}

/// [E] values that the data gives per token, in the order of edges; undefined where no sample of the pack has them.
at::Tensor per_edge(const Pack& pack, std::vector<double> data::Sample::*field, const char* name,
                    at::ScalarType dtype) {
  size_t given = 0, with_tokens = 0;  // a sample without tokens has nothing to give
  for (const data::Sample* sample : pack.sample) {
    given += !(sample->*field).empty();
    with_tokens += !sample->token.empty();
  }
  if (given == 0) return {};
  check<DataError>(given == with_tokens, "only some samples of a pack have ", name,
                   ": give it for every completion of the data set or for none");
  std::vector<double> values(pack.layout.edge_index.size());
  for (size_t e = 0; e < values.size(); ++e)
    values[e] = (pack.sample[static_cast<size_t>(pack.layout.edge_sample[e])]
                     ->*field)[static_cast<size_t>(pack.layout.edge_index[e])];
  return from_doubles(values, dtype);
}

/// What the loss sees besides the model's outputs.
loss::Edges edges_of(const Pack& pack, at::ScalarType dtype) {
  std::vector<double> length, advantage, margin;
  bool has_margin = false;
  for (size_t b = 0; b < pack.sample.size(); ++b) {
    length.push_back(pack.layout.sample[b].edges);
    advantage.push_back(pack.sample[b]->advantage.value_or(0.0));
    has_margin = has_margin || pack.group[b]->margin.has_value();
    if (b % 2 == 0) margin.push_back(pack.group[b]->margin.value_or(0.0));
  }
  loss::Edges edges;
  edges.sample = pack.tensors.edge_sample;
  edges.length = from_doubles(length, dtype);
  edges.advantage = from_doubles(advantage, dtype);
  if (has_margin) edges.margin = from_doubles(margin, dtype);
  edges.old_logp = per_edge(pack, &data::Sample::old_logp, "old_logps", dtype);
  edges.ref_logp = per_edge(pack, &data::Sample::ref_logp, "ref_logps", dtype);
  return edges;
}

/// [E] from per-row values [R] of the rows that reached the head.
at::Tensor row_to_edge(const at::Tensor& per_row, const parallel::PackTensors& tensors) {
  return per_row.index_select(0, tensors.score_row).index_select(0, tensors.edge_score);
}

at::Tensor reference_logp(model::Transformer& reference, int pack, const parallel::PackTensors& tensors) {
  const at::NoGradGuard frozen;
  const at::Tensor hidden = reference.forward(pack, tensors, {});
  return reference.logprobs(hidden, tensors).logp.index_select(0, tensors.edge_score);
}

std::string name_samples(const Pack& pack) {
  std::string ids;
  for (size_t b = 0; b < pack.sample.size() && b < 8; ++b)
    ids += text(b ? ", " : "", pack.group[b]->id, ".", pack.layout.sample[b].index);
  return pack.sample.size() > 8 ? text(ids, ", ... (", pack.sample.size(), " in all)") : ids;
}

}  // namespace

void Trainer::Impl::forward_pack(std::span<const data::Group> groups, const plan::StepPlan& plan, int pack_index,
                                 bool share, StepSums& sums) {
  const auto start = Clock::now();
  const Pack pack =
      lay_out(groups, plan.replica[static_cast<size_t>(mesh.at().dp)][static_cast<size_t>(pack_index)], share);
  const parallel::PackTensors& tensors = pack.tensors;
  loss::Edges edges = edges_of(pack, ops::accumulate_dtype(scalar_type(config.model.dtype)));
  if (reference && !edges.ref_logp.defined()) edges.ref_logp = reference_logp(*reference, pack_index, tensors);

  const at::Tensor hidden = policy->forward(pack_index, tensors, {});
  if (config.method == Method::kReward) {
    edges.score = policy->scores(hidden, tensors);
  } else {
    const ops::SelectedLogprob head = policy->logprobs(hidden, tensors);
    edges.logp = head.logp.index_select(0, tensors.edge_score);
    edges.entropy = row_to_edge(head.entropy.detach(), tensors);
    edges.correct = head.argmax.index_select(0, tensors.score_row)
                        .eq(tensors.score_target)
                        .index_select(0, tensors.edge_score)
                        .to(edges.length.dtype());
    if (config.method == Method::kDpo) edges.mean_logit = row_to_edge(policy->mean_logits(hidden, tensors), tensors);
  }
  const loss::LossOutput output = loss(edges, plan.totals);
  sums.metrics.add(output.metrics);
  const double value = output.loss.item<double>();
  sums.metrics.add("loss", loss::Combine::kSum, value);
  if (!std::isfinite(value) && sums.bad_pack.empty())
    sums.bad_pack = text("the loss is ", value, " at step ", steps_done + 1, " on rank ", world.rank(),
                         " in the pack of samples (group.index) ", name_samples(pack));
  in_flight[pack_index] = {hidden, output.loss};
  sums.busy_seconds += std::chrono::duration<double>(Clock::now() - start).count();
}

double Trainer::Impl::backward_pack(int pack_index) {
  const auto start = Clock::now();
  const InFlight pack = std::move(in_flight.at(pack_index));
  in_flight.erase(pack_index);
  if (pack.loss.requires_grad()) pack.loss.backward();
  const at::Tensor& grad = pack.hidden.grad();  // undefined when no edge of the pack depends on the hidden rows
  policy->backward_input(pack_index, grad.defined() ? grad : at::zeros_like(pack.hidden));
  flat.fold_gradients();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void Trainer::Impl::precompute_reference(std::vector<data::Group>& groups, LogSink& step_log) {
  step_log.info(text("computing the reference's log-probs of ", groups.size(), " groups once"));
  const auto per_step = static_cast<size_t>(config.train.groups_per_step);
  const at::ScalarType dtype = ops::accumulate_dtype(scalar_type(config.model.dtype));
  for (size_t first = 0; first < groups.size(); first += per_step) {
    const std::span<data::Group> slice(groups.data() + first, std::min(per_step, groups.size() - first));
    const plan::StepPlan plan = make_plan(slice, config.pack.share_prefix);
    std::vector<std::vector<int64_t>> offset;  // of each sample's tokens in the step's flat list
    int64_t total = 0;
    for (const data::Group& group : slice) {
      auto& of_group = offset.emplace_back();
      for (const data::Sample& sample : group.sample) of_group.push_back(total), total += sample.length();
    }
    at::Tensor logp = at::zeros({total}, dtype);
    const auto& packs = plan.replica[static_cast<size_t>(mesh.at().dp)];
    for (size_t p = 0; p < packs.size(); ++p) {
      const Pack pack = lay_out(slice, packs[p], config.pack.share_prefix);
      std::vector<int64_t> position;
      for (size_t e = 0; e < pack.layout.edge_index.size(); ++e) {
        const plan::MemberRef& ref = packs[p].member[static_cast<size_t>(pack.layout.edge_sample[e])];
        position.push_back(offset[static_cast<size_t>(ref.group)][static_cast<size_t>(ref.index)] +
                           pack.layout.edge_index[e]);
      }
      logp.index_put_({at::tensor(position, at::kLong)}, reference_logp(*reference, static_cast<int>(p), pack.tensors));
    }
    mesh.dp().all_reduce(logp);  // disjoint: every token is computed on one rank
    const at::Tensor all = logp.to(at::kDouble);
    const double* value = all.const_data_ptr<double>();
    for (data::Group& group : slice)
      for (data::Sample& sample : group.sample)
        sample.ref_logp.assign(value, value + sample.length()), value += sample.length();
  }
  reference.reset();
}

}  // namespace fpdist::trainer
