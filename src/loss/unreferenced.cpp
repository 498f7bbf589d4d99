#include "src/loss/unreferenced.hpp"

#include <ATen/ATen.h>

namespace fpdist::loss {

void require_answers(const Edges& edges, const char* loss) {
  require(edges.logp, edges.sample.numel(), "logp", loss);
  require(edges.mean_logit, edges.sample.numel(), "mean_logit", loss);
}

std::map<std::string, Metric> answer_metrics(const Edges& edges, const at::Tensor& reward, const at::Tensor& logp,
                                             const at::Tensor& in_answer) {
  const at::Tensor better = chosen(reward), worse = rejected(reward);
  const at::Tensor is_rejected = in_answer * edges.sample.remainder(2).to(edges.logp.dtype());
  return {{"rewards/chosen", mean_of(better)},
          {"rewards/rejected", mean_of(worse)},
          {"rewards/accuracies", mean_of(better.gt(worse).to(better.dtype()))},
          {"rewards/margins", mean_of(better - worse)},
          {"logps/chosen", mean_of(chosen(logp))},
          {"logps/rejected", mean_of(rejected(logp))},
          {"logits/chosen", mean_of(edges.mean_logit, in_answer - is_rejected)},
          {"logits/rejected", mean_of(edges.mean_logit, is_rejected)}};
}

}  // namespace fpdist::loss
