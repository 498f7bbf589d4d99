// Embedding and log-probabilities with the vocabulary cut over the ranks.
// Legend: T rows of a pack, H hidden, V_r own vocabulary slice, S scores, R rows that reach the head, P ranks.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/ops/partial_embedding.hpp"
#include "src/ops/partial_logprob.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::parallel {
namespace {

void check_slice(const char* name, const ops::Parameter& weight, const comm::Communicator& tp) {
  check(weight.value.defined() && weight.value.dim() == 2, name, ": weight ", weight.name, " must be [V,H]");
  const auto& cut = weight.sharding;
  check(cut.dim == 0 && cut.full_shape.size() == 2 && cut.begin >= 0 &&
            cut.begin + weight.value.size(0) <= cut.full_shape[0],
        name, ": ", weight.name, " is no vocabulary slice, but ", tp.axis(), " has ", tp.size(),
        " ranks: cut it along dim 0");
}

/// Tokens as ids of the slice, -1 for those in another one: as many as there are, known without reading any.
at::Tensor ids_in_slice(const at::Tensor& token, const ops::Parameter& weight) {
  const at::Tensor local = token - weight.sharding.begin;
  const at::Tensor inside = local.ge(0).bitwise_and(local.lt(weight.value.size(0)));
  return local.masked_fill(inside.bitwise_not(), -1);
}

/// Targets as ids of the slice, -1 for those in another one.
at::Tensor local_targets(const at::Tensor& target, const ops::Parameter& weight) {
  const int64_t vocabulary = weight.sharding.full_shape[0];
  check(target.scalar_type() == at::kLong, "selected_logprob: target is ", target.scalar_type(), ", needs int64 [S]");
  check(!target.is_cpu() || target.numel() == 0 ||
            (target.min().item<int64_t>() >= 0 && target.max().item<int64_t>() < vocabulary),
        "selected_logprob: a target is outside the vocabulary [0, ", vocabulary, ")");
  return ids_in_slice(target, weight);
}

/// Every slice's part, stacked in rank order, argmax in ids of the whole vocabulary: one gather. Ids travel as numbers
/// of the accumulation dtype, which float32 holds exactly up to 2^24.
ops::PartialLogprob gather_parts(const ops::PartialLogprob& mine, int64_t begin, comm::Communicator& tp) {
  const int64_t scores = mine.logit.numel(), rows = mine.lse.numel(), ranks = tp.size();
  const at::Tensor packed =
      at::cat({mine.logit, mine.lse, mine.entropy, mine.best, (mine.argmax + begin).to(mine.lse.scalar_type())});
  at::Tensor all = at::empty({ranks, packed.numel()}, packed.options());
  tp.all_gather_v(packed, all, std::vector<int64_t>(index(ranks), packed.numel()));
  const auto part = [&](int64_t index) { return all.narrow(1, scores + index * rows, rows); };
  return {all.narrow(1, 0, scores), part(0), part(1), part(2), part(3).to(at::kLong), {}};
}

struct SplitLogprob : torch::autograd::Function<SplitLogprob> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& hidden,
                                                const at::Tensor& weight, const at::Tensor& score_row,
                                                const at::Tensor& target, const ops::MainGrad& main_grad,
                                                double temperature, bool keeps_logits, int64_t begin,
                                                comm::Communicator* tp) {
    const at::AutoDispatchBelowAutograd below;
    const ops::PartialLogprob mine =
        ops::partial_logprob(hidden.detach(), weight.detach(), score_row, target, temperature, keeps_logits);
    context->saved_data["logits"] = mine.logits;
    context->saved_data["temperature"] = temperature;
    const ops::MergedLogprob merged = ops::merge_logprobs(gather_parts(mine, begin, *tp), score_row);
    context->save_for_backward({hidden, weight, score_row, target, merged.lse, merged.entropy});
    main_grad.save(*context, "main_grad");
    context->mark_non_differentiable({merged.argmax});
    context->set_materialize_grads(false);
    return {merged.logp, merged.entropy, merged.argmax};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    torch::autograd::variable_list result(9);
    const std::optional<at::Tensor> logits = ops::take_logits(*context);
    if (!grads[0].defined() && !grads[1].defined()) return result;
    const auto saved = context->get_saved_variables();
    const ops::MergedLogprob merged{.logp = {}, .lse = saved[4], .entropy = saved[5], .argmax = {}};
    const double temperature = context->saved_data["temperature"].toDouble();
    result[0] =
        ops::partial_logprob_backward(grads[0], grads[1], saved[0].detach(), saved[1].detach(), saved[2], saved[3],
                                      merged, temperature, ops::MainGrad::saved(*context, "main_grad"), logits);
    return result;
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& token, const ops::Parameter& weight, comm::Communicator& tp,
                     std::span<const int64_t> counts) {
  if (tp.size() == 1) return ops::embedding(token, weight);
  check_slice("embedding", weight, tp);
  check(token.dim() == 1 && token.scalar_type() == at::kLong, "embedding: token must be int64 [T]");
  check(!token.is_cpu() || token.numel() == 0 ||
            (token.min().item<int64_t>() >= 0 && token.max().item<int64_t>() < weight.sharding.full_shape[0]),
        "embedding: a token is outside the vocabulary [0, ", weight.sharding.full_shape[0], ")");
  return scatter_sum_rows(ops::partial_embedding(ids_in_slice(token, weight), weight), tp, counts);
}

ops::SelectedLogprob selected_logprob(const at::Tensor& hidden, const ops::Parameter& weight,
                                      const at::Tensor& score_row, const at::Tensor& target, comm::Communicator& tp,
                                      double temperature, bool keeps_logits) {
  if (tp.size() == 1) return ops::selected_logprob(hidden, weight, score_row, target, temperature, keeps_logits);
  check_slice("selected_logprob", weight, tp);
  const bool trained = weight.main_grad.defined();
  const auto result = SplitLogprob::apply(hidden, trained ? weight.value : weight.value.detach(), score_row,
                                          local_targets(target, weight), ops::MainGrad(weight), temperature,
                                          keeps_logits, weight.sharding.begin, &tp);
  return {result[0], result[1], result[2]};
}

}  // namespace fpdist::parallel
