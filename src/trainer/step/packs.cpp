#include "src/trainer/step/packs.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/core/index.hpp"
#include "src/parallel/context/context_attention.hpp"
#include "src/plan/context/context_plan.hpp"

namespace fpdist::trainer {
namespace {

/// On the host still.
at::Tensor from_doubles(const std::vector<double>& values, const Job& job) {
  return at::tensor(values, at::kDouble).to(job.sum_dtype());
}

/// [E] values that the data gives per token, in the order of edges; undefined where no sample of the pack has them.
at::Tensor per_edge(const Pack& pack, std::vector<double> data::Sample::*field, const char* name, const Job& job) {
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
    values[e] = (pack.sample[index(pack.layout.edge_sample[e])]->*field)[index(pack.layout.edge_index[e])];
  return from_doubles(values, job);
}

/// [E] weights of the pack's edges; undefined where all are 1.
at::Tensor edge_weights(const Pack& pack, const Job& job) {
  const auto has_weights = [](const data::Sample* sample) { return !sample->weight.empty(); };
  if (std::none_of(pack.sample.begin(), pack.sample.end(), has_weights)) return {};
  std::vector<double> values(pack.layout.edge_index.size(), 1.0);
  for (size_t e = 0; e < values.size(); ++e) {
    const std::vector<double>& given = pack.sample[index(pack.layout.edge_sample[e])]->weight;
    if (!given.empty()) values[e] = given[index(pack.layout.edge_index[e])];
  }
  return from_doubles(values, job);
}

/// A reference without the adapter rides along with rows that it must not see.
bool hides_virtual_tokens(const Job& job) {
  const bool is_without = job.config.adapter.path.empty() || !job.config.model.ref_path.empty();
  return job.model.adapter.prefix.row_tokens() > 0 && is_without &&
         loss::needs_of(job.config.method, job.config.loss).reference;
}

/// The same rows where virtual tokens are seen by nobody else, and the others stand where they would without them.
prefix::TreeLayout without_virtual_tokens(prefix::TreeLayout layout, const arch::Model& model) {
  int32_t ahead = 0;  // virtual tokens of the tree
  for (int32_t row = 0; row < layout.rows(); ++row) {
    int32_t &token = layout.token[index(row)], &depth = layout.depth[index(row)];
    const bool is_virtual = token >= model.vocab_size;
    if (depth == 0) ahead = is_virtual ? static_cast<int32_t>(model.adapter.prefix.row_tokens()) : 0;
    depth = std::max(0, depth - ahead);
    if (is_virtual) token = 0, layout.subtree_end[index(row)] = row + 1;
  }
  return layout;
}

/// [C, context_dim] of the pack's prefixes that are made of contexts, undefined where there are none; its virtual
/// tokens get the ids of these, prefix behind prefix in the order of rows.
at::Tensor number_contexts(Pack& pack, const arch::Model& model) {
  const arch::Prefix& prefix = model.adapter.prefix;
  if (prefix.context_dim == 0) return {};
  std::map<int64_t, const data::Group*> group_of;  // by the step's number of its prefix
  for (size_t b = 0; b < pack.sample.size(); ++b)
    if (const std::vector<int32_t>& token = pack.sample[b]->token; !token.empty() && token[0] >= model.vocab_size)
      group_of.emplace((token[0] - model.vocab_size) / prefix.tokens, pack.group[b]);
  if (group_of.empty()) return {};
  std::vector<at::Tensor> contexts;
  std::map<int64_t, int64_t> here;
  for (int32_t& token : pack.layout.token) {
    if (token < model.vocab_size) continue;
    const int64_t id = token - model.vocab_size, number = id / prefix.tokens;
    const auto [entry, is_new] = here.try_emplace(number, std::ssize(here));
    if (is_new) contexts.push_back(at::tensor(group_of.at(number)->prefix_context, at::kFloat));
    token = static_cast<int32_t>(model.vocab_size + entry->second * prefix.tokens + id % prefix.tokens);
  }
  return at::stack(contexts);
}

}  // namespace

std::string Pack::samples() const {
  std::string ids;
  for (size_t b = 0; b < sample.size() && b < 8; ++b)
    ids += text(b ? ", " : "", group[b]->id, ".", layout.sample[b].index);
  return sample.size() > 8 ? text(ids, ", ... (", sample.size(), " in all)") : ids;
}

Packs::Packs(const Job& job, std::span<const data::Group> groups, const plan::StepPlan& plan, bool share)
    : job_(job), groups_(groups), plans_(plan.replica[index(job.mesh.at().dp)]), share_(share) {
  int64_t samples = 0, edges = 0;
  for (const data::Group& group : groups)
    first_sample_.push_back(std::exchange(samples, samples + static_cast<int64_t>(group.sample.size())));
  for (const auto& packs : plan.replica)
    for (const plan::PackPlan& pack : packs) {
      if (&packs == &plans_) first_edge_.push_back(edges);
      edges += pack.edges;
    }
}

const plan::PackPlan& Packs::plan_of(int pack) const { return plans_.at(index(pack)); }

void Packs::make_all() {
  for (size_t number = 0; number < plans_.size(); ++number) (void)at(static_cast<int>(number));
}

const Pack& Packs::at(int number) {
  const auto [entry, fresh] = packs_.try_emplace(number);
  Pack& pack = entry->second;
  if (!fresh) return pack;
  const plan::PackPlan& plan = plan_of(number);
  for (const plan::MemberRef& ref : plan.member) {
    const data::Group& group = groups_[index(ref.group)];
    const data::Sample& sample = group.sample[index(ref.index)];
    pack.group.push_back(&group);
    pack.sample.push_back(&sample);
    pack.place.push_back(first_sample_[index(ref.group)] + ref.index);
    pack.lacks_reference = pack.lacks_reference && sample.ref_logp.empty();
  }
  pack.first_edge = first_edge_[index(number)];
  pack.layout = plan::lay_out(groups_, plan, share_);
  const at::Tensor contexts = number_contexts(pack, job_.model);
  pack.tensors = tensors_of(pack.layout, plan);
  // On every rank, and in slices without a virtual token: their queries have gradients for its keys elsewhere.
  if (contexts.defined())
    for (parallel::SliceTensors& slice : pack.tensors.slice) slice.rows.prefix_context = job_.device->upload(contexts);
  if (!hides_virtual_tokens(job_)) return pack;
  parallel::PackTensors hidden = tensors_of(without_virtual_tokens(pack.layout, job_.model), plan);
  for (parallel::SliceTensors& slice : hidden.slice) pack.reference_rows.push_back(std::move(slice.rows));
  return pack;
}

parallel::PackTensors Packs::tensors_of(const prefix::TreeLayout& layout, const plan::PackPlan& plan) const {
  const comm::Mesh& mesh = job_.mesh;
  parallel::RowShare rows{.slices = {},
                          .cp_rank = mesh.at().cp,
                          .tp_rank = mesh.at().tp,
                          .tp_size = mesh.shape().tp,
                          .keyed = job_.model.adapter.dropout > 0};
  const bool exchanges = mesh.shape().cp > 1 || plan.slice_end.size() > 1;  // else all keys are in the slice, here
  std::vector<plan::CpPlan> plans;
  if (exchanges)
    plans = plan::plan_context_slices(layout.node, plan.slice_end, job_.config.parallel, job_.settled.cp_costs);
  rows.slices = plans;
  parallel::PackTensors tensors = parallel::make_pack_tensors(layout, rows, job_.device.get());
  for (size_t s = 0; s < plans.size(); ++s)
    tensors.slice[s].rows.exchange = std::make_shared<parallel::ContextExchange>(
        std::span(plans.data(), s + 1), layout.subtree_end, mesh.cp(), mesh.cp_gradient(), job_.device.get());
  return tensors;
}

namespace {

at::Tensor from_integers(const std::vector<int64_t>& values, const Job& job) {
  return job.device->upload(at::tensor(values, at::kLong));
}

/// Which targets demonstrations gave, and what these are worth.
void add_prefixes(const Pack& pack, const Job& job, loss::Edges& edges) {
  std::vector<double> in_prefix, advantage;
  for (size_t e = 0; e < pack.layout.edge_index.size(); ++e) {
    const data::Sample& sample = *pack.sample[index(pack.layout.edge_sample[e])];
    const int32_t place = pack.layout.edge_index[e] - sample.prompt_length;
    in_prefix.push_back(place >= 0 && place < sample.prefix_length ? 1 : 0);
  }
  for (const data::Sample* sample : pack.sample)
    advantage.push_back(sample->prefix_advantage.value_or(sample->advantage.value_or(0.0)));
  edges.in_prefix = from_doubles(in_prefix, job), edges.prefix_advantage = from_doubles(advantage, job);
}

/// Of the pack's edges and samples, where the loss reads it.
void add_places(const Pack& pack, const loss::Needs& needs, const Job& job, loss::Edges& edges) {
  if (needs.position) {
    std::vector<int64_t> position;
    for (size_t e = 0; e < pack.layout.edge_index.size(); ++e)
      position.push_back(pack.layout.edge_index[e] - pack.sample[index(pack.layout.edge_sample[e])]->prompt_length);
    edges.position = from_integers(position, job);
  }
  if (needs.step == loss::StepView::kNone) return;
  edges.place = from_integers(pack.place, job);
  edges.first_edge = pack.first_edge;
}

}  // namespace

loss::Edges data_edges(const Pack& pack, const loss::Needs& needs, const Job& job) {
  std::vector<double> length, advantage, wanted, margin, pair_weight;
  bool has_margin = false, has_weight = false;
  for (size_t b = 0; b < pack.sample.size(); ++b) {
    length.push_back(pack.layout.sample[b].edges);
    advantage.push_back(pack.sample[b]->advantage.value_or(0.0));
    wanted.push_back(pack.sample[b]->reward.value_or(0.0));
    has_margin = has_margin || pack.group[b]->margin.has_value();
    has_weight = has_weight || pack.group[b]->weight.has_value();
    if (b % 2 != 0) continue;
    margin.push_back(pack.group[b]->margin.value_or(0.0));
    pair_weight.push_back(pack.group[b]->weight.value_or(1.0));
  }
  loss::Edges edges;
  edges.sample = pack.tensors.places.edge_sample;
  edges.length = from_doubles(length, job);
  edges.advantage = from_doubles(advantage, job);
  if (needs.wanted) edges.wanted = from_doubles(wanted, job);
  if (has_margin) edges.margin = from_doubles(margin, job);
  if (has_weight) edges.pair_weight = from_doubles(pair_weight, job);
  edges.weight = edge_weights(pack, job);
  if (needs.old_logp) edges.old_logp = per_edge(pack, &data::Sample::old_logp, "old_logps", job);
  edges.ref_logp = per_edge(pack, &data::Sample::ref_logp, "ref_logps", job);
  if (needs.prefix) add_prefixes(pack, job, edges);
  std::vector<at::Tensor*> given{&edges.length,    &edges.advantage,       &edges.margin,      &edges.old_logp,
                                 &edges.ref_logp,  &edges.weight,          &edges.pair_weight, &edges.wanted,
                                 &edges.in_prefix, &edges.prefix_advantage};
  std::erase_if(given, [](const at::Tensor* tensor) { return !tensor->defined(); });
  job.device->upload_all(given);
  add_places(pack, needs, job, edges);
  return edges;
}

loss::Edges empty_edges(const Job& job) {
  const at::Tensor none = at::zeros({0}, job.tensor_options(job.sum_dtype()));
  return {.logp = none,
          .entropy = none,
          .correct = none,
          .mean_logit = none,
          .ref_logp = none,
          .old_logp = none,
          .sample = none.to(at::kLong),
          .length = none,
          .score = none,
          .advantage = none,
          .margin = none,
          .weight = none,
          .pair_weight = none,
          .log_sum_sq = none,
          .base_kl = none,
          .position = none.to(at::kLong),
          .wanted = none,
          .in_prefix = none,
          .prefix_advantage = none,
          .place = none.to(at::kLong)};
}

at::Tensor all_scores(const at::Tensor& own, const Pack& pack, const comm::Mesh& mesh) {
  const at::Tensor mine = own.detach().contiguous();
  const int64_t columns = own.size(1);
  const parallel::LossPlaces& places = pack.tensors.places;
  std::vector<int64_t> counts;
  for (const int64_t scores : places.score_count) counts.push_back(scores * columns);
  at::Tensor all = at::empty({places.score_place.size(0), columns}, mine.options());
  mesh.cp().all_gather_v(mine, all, counts);
  return all.index_select(0, places.score_place);
}

}  // namespace fpdist::trainer
