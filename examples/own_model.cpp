// A model of one's own: a parallel::Stage with operators of this library, trained on the packs of a plan.
//   example_own_model
// Every step runs twice, with shared prefixes and with each sample alone: the loss and every gradient are the same.

#include <ATen/ATen.h>

#include <cmath>
#include <iostream>
#include <map>

#include "fpdist/core/rng.hpp"
#include "fpdist/fpdist.hpp"

namespace {

using namespace fpdist;

constexpr int64_t kVocab = 64, kPositions = 32, kHidden = 32, kHeads = 4;

ops::ParameterPtr make(int64_t rows) {
  auto parameter = std::make_shared<ops::Parameter>();
  parameter->value = (at::randn({rows, kHidden}, at::kDouble) * 0.1).requires_grad_();
  return parameter;
}

/// One layer of attention between an embedding and a head that share their weight.
class OneLayer final : public parallel::Stage {
 public:
  at::Tensor forward(int pack, const parallel::RowsHere& rows, const at::Tensor&) override {
    const at::Tensor x = ops::embedding(rows.token, *token) + ops::embedding(rows.depth, *position);
    const auto heads = [&](const ops::Parameter& w) { return ops::linear(x, w).view({-1, kHeads, kHidden / kHeads}); };
    const ops::AttentionOptions options{.scale = 1 / std::sqrt(double(kHidden / kHeads))};
    const at::Tensor seen = ops::tree_attention({heads(*q), heads(*k), heads(*v)}, rows.mask, options, rows.calls).out;
    outputs_[pack] = ops::linear(seen.flatten(1), *o, nullptr, x);
    return outputs_[pack].detach().requires_grad_();
  }
  at::Tensor backward_input(int pack, int, const at::Tensor& grad_output) override {
    outputs_.extract(pack).mapped().backward(grad_output);
    return {};  // the first run of layers has no input
  }
  void backward_weight(int, int) override {}  // nothing is deferred

  const ops::ParameterPtr token = make(kVocab), position = make(kPositions), q = make(kHidden), k = make(kHidden),
                          v = make(kHidden), o = make(kHidden);
  ops::FlatParameters parameters{{token, position, q, k, v, o}};

 private:
  std::map<int, at::Tensor> outputs_;
};

/// Loss of all packs; gradients are added up in model.parameters.main_grad().
double run(OneLayer& model, std::span<const data::Group> groups, bool share) {
  plan::ParallelOptions one_rank;
  one_rank.dp = 1;
  const plan::StepPlan plan = plan::make_step_plan(groups, plan::Atomic::kSamples, one_rank, plan::StageCosts{},
                                                   {.max_tokens = 128, .share_prefix = share, .slices = 1});
  std::cout << plan.totals.tokens_logical << " tokens in " << plan.totals.tokens_computed << " rows of "
            << plan.replica[0].size() << " packs, loss ";
  model.parameters.begin_gradients();
  double loss = 0;
  for (int i = 0; i < static_cast<int>(plan.replica[0].size()); ++i) {
    const auto pack = parallel::make_pack_tensors(plan::lay_out(groups, plan.replica[0][size_t(i)], share));
    const auto& [here, head] = pack.slice[0];
    const at::Tensor rows = model.forward(i, here, {});
    const auto scores =
        ops::selected_logprob(rows.index_select(0, head.row), *model.token, head.score_row, head.score_target);
    const at::Tensor nll = -scores.logp.index_select(0, pack.places.edge_score).sum() / double(plan.totals.edges);
    nll.backward();
    model.backward_input(i, 0, rows.grad());
    loss += nll.item<double>();
  }
  std::cout << loss << '\n';
  return loss;
}

}  // namespace

int main() {
  at::manual_seed(1);
  Rng rng(/*seed=*/1);
  std::vector<data::Group> groups(8);
  data::Sample prompt;
  prompt.token.resize(24), prompt.target.resize(24, data::kIgnore);
  for (data::Group& group : groups) {  // random answers behind one long prompt
    group.sample.assign(4, prompt);
    for (data::Sample& sample : group.sample)
      for (int t = 0; t < 8; ++t) sample.target.push_back(sample.token.emplace_back(int32_t(rng.below(kVocab))));
  }
  OneLayer model;
  for (int step = 1; step <= 3; ++step) {
    const double alone = run(model, groups, false);
    const at::Tensor gradient = model.parameters.main_grad().clone();
    double difference = std::abs(run(model, groups, true) - alone);
    difference = std::max(difference, (model.parameters.main_grad() - gradient).abs().max().item<double>());
    std::cout << "step " << step << (difference < 1e-12 ? " is the same, by " : " is WRONG, by ") << difference << '\n';
    model.parameters.value().sub_(gradient, /*alpha=*/2.0);
  }
}
