#pragma once
// loss (private): Melnyk et al., "Distributional preference alignment of LLMs via optimal transport" (2024): margins
// are sorted over the step, and the k-th of one side compared with the k-th of the other by
// -(1 - e) log sigmoid(beta d) - e log sigmoid(-beta d). aot (equation 7): the policy's margins against the
// reference's; aot_unpaired (equation 8): log-ratios of chosen answers against those of rejected ones. Of equal values
// the earlier pair comes first.

#include <ATen/ATen.h>

#include <tuple>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

/// [N] int64 places of the values in ascending order.
inline at::Tensor ranks(const at::Tensor& values) {
  const at::Tensor order = at::argsort(values, /*stable=*/true, /*dim=*/0);
  return at::empty_like(order).index_copy_(0, order, at::arange(order.size(0), order.options()));
}

inline at::Tensor ascending(const at::Tensor& values) { return std::get<0>(at::sort(values)); }

inline at::Tensor sorted_pair_loss(const at::Tensor& difference, const LossOptions& options) {
  const double flipped = options.label_smoothing;
  return -(1 - flipped) * at::log_sigmoid(options.beta * difference) -
         flipped * at::log_sigmoid(-options.beta * difference);
}

inline PairTerm aot_term(const Pairs& pairs, const LossOptions& options) {
  const auto margin = [](const at::Tensor& of) { return of.select(1, 0) - of.select(1, 1); };
  const at::Tensor rank = ranks(margin(pairs.step_logp)).index_select(0, pairs.place);
  const at::Tensor reference = ascending(margin(pairs.step_ref_logp)).index_select(0, rank);
  return {sorted_pair_loss(pairs.chosen_logp - pairs.rejected_logp - reference, options)};
}

/// The k-th term stands at the pair of the k-th chosen answer; the k-th rejected one has its gradient from there.
inline PairTerm aot_unpaired_term(const Pairs& pairs, const LossOptions& options) {
  const at::Tensor ratio = pairs.step_logp - pairs.step_ref_logp;
  const at::Tensor chosen = ratio.select(1, 0), rejected = ratio.select(1, 1);
  const at::Tensor chosen_rank = ranks(chosen).index_select(0, pairs.place);
  const at::Tensor rejected_rank = ranks(rejected).index_select(0, pairs.place);
  const at::Tensor own =
      sorted_pair_loss(pairs.chosen_ratio - ascending(rejected).index_select(0, chosen_rank), options);
  const at::Tensor partner = at::argsort(chosen, /*stable=*/true, /*dim=*/0).index_select(0, rejected_rank);
  const at::Tensor theirs = sorted_pair_loss(chosen.index_select(0, partner) - pairs.rejected_ratio, options) *
                            pairs.step_weight.index_select(0, partner);
  return {.value = own, .gradient = theirs - theirs.detach()};
}

}  // namespace fpdist::loss
