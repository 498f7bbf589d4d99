#include "src/main/bench/step_model.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "fpdist/core/rng.hpp"
#include "src/main/bench/group_work.hpp"
#include "src/ops/segments.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/step_tree.hpp"

namespace fpdist::bench {
namespace {

model::TransformerOptions on_device(model::TransformerOptions options, const comm::Device& device) {
  options.device = device.where();
  return options;
}

const std::vector<ops::ParameterPtr>& draw_weights(const model::Transformer& model) {
  const at::NoGradGuard no_grad;
  for (const ops::ParameterPtr& parameter : model.parameters()) {
    if (parameter->value.dim() >= 2)
      parameter->value.normal_(0.0, 0.02);
    else
      parameter->value.fill_(parameter->name.ends_with("bias") ? 0.0 : 1.0);
  }
  return model.trained();
}

}  // namespace

data::Group random_group(const StepCell& cell, int64_t vocab) {
  Rng rng(1);
  const auto draw = [&](int64_t count) {
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    for (int32_t& token : tokens) token = static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab)));
    return tokens;
  };
  data::Group group;
  const std::vector<int32_t> prompt = draw(cell.prompt);
  for (int64_t g = 0; g < cell.group; ++g) {
    data::Sample sample;
    sample.token = prompt;
    sample.target.assign(prompt.size(), data::kIgnore);
    sample.prompt_length = static_cast<int32_t>(prompt.size());
    for (const int32_t token : draw(cell.completion)) sample.token.push_back(token), sample.target.push_back(token);
    sample.advantage = g % 2 != 0 ? 1.0 : -1.0;
    group.sample.push_back(std::move(sample));
  }
  return group;
}

double operations(const arch::Model& config, const data::Group& group, bool share, bool with_head) {
  plan::Amount work = work_of({&group, 1}, share);
  if (!with_head) work.edges = 0;
  return static_cast<double>(plan::total_work(plan::stage_costs(config.shape()), work));
}

StepModel::StepModel(const arch::Model& config, comm::Device& device, const model::TransformerOptions& options)
    : config_(config),
      device_(device),
      model_(config_, on_device(options, device)),
      flat_(draw_weights(model_)),
      loss_(loss::make_loss(Method::kGrpo, {.beta = 0.0})) {}

StepModel::Pass StepModel::make_pass(const data::Group& group, bool share, int64_t max_tokens) const {
  plan::ParallelOptions one_rank;
  one_rank.dp = 1;
  const std::vector<data::Group> groups{group};
  const plan::StepPlan plan =
      plan::make_step_plan(groups, plan::Atomic::kSamples, one_rank, plan::stage_costs(config_.shape()),
                           {.max_tokens = max_tokens, .share_prefix = share, .slices = 1});
  Pass pass{.pack = {}, .totals = plan.totals};
  for (const plan::PackPlan& planned : plan.replica[0]) {
    std::vector<double> length, advantage;
    for (const plan::MemberRef& ref : planned.member) {
      const data::Sample& sample = group.sample[static_cast<size_t>(ref.index)];
      length.push_back(static_cast<double>(plan::count_edges(sample))), advantage.push_back(*sample.advantage);
    }
    const auto dtype = flat_.parameters()[0]->main_grad.scalar_type();
    Pass::Pack pack{.tensors = parallel::make_pack_tensors(plan::lay_out(groups, planned, share), {}, &device_),
                    .length = device_.upload(at::tensor(length, at::kDouble).to(dtype)),
                    .advantage = device_.upload(at::tensor(advantage, at::kDouble).to(dtype))};
    pass.pack.push_back(std::move(pack));
  }
  return pass;
}

void StepModel::run(const Pass& pass) {
  flat_.begin_gradients();
  for (const Pass::Pack& pack : pass.pack) {
    const auto& [rows, head] = pack.tensors.slice.front();
    const parallel::LossPlaces& places = pack.tensors.places;
    const at::Tensor hidden = model_.forward(0, rows, {});
    const ops::SelectedLogprob selected = model_.logprobs(hidden, head, /*keeps_logits=*/true);
    loss::Edges edges;
    edges.logp = ops::pick_rows(selected.logp, places.edge_score);
    edges.entropy = selected.entropy.detach().index_select(0, head.score_row).index_select(0, places.edge_score);
    edges.correct = at::zeros_like(edges.entropy);
    edges.sample = places.edge_sample;
    edges.length = pack.length, edges.advantage = pack.advantage;
    loss_(edges, pass.totals).loss.backward();
    model_.backward_input(0, hidden.grad());
    flat_.fold_gradients();
  }
  flat_.settle_gradients(0, flat_.parameters().size());
}

}  // namespace fpdist::bench
