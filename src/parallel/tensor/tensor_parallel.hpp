#pragma once
// parallel: tensor and sequence parallelism over one axis (Korthikanti et al., "Reducing activation recomputation in
// large transformer models", 2022). Between its linears every rank holds a run of the rows (a row shard); inside them
// all rows and a slice of the columns. Row counts need not divide: rank r has counts[r] rows, any of them may be 0.
// All functions are collective over `tp`, forward and backward, in program order; on an axis of one rank they
// communicate nothing. Differentiable; `tp` must outlive every graph that came from it. Throws ShapeError.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/ops/functional.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::parallel {

/// `total` over `parts`, the first total % parts of them one larger.
std::vector<int64_t> split_evenly(int64_t total, int parts);

/// mine [counts[rank], ...] -> all rows [sum(counts), ...]; backward sums the ranks' gradients of the own rows.
at::Tensor gather_rows(const at::Tensor& mine, comm::Communicator& tp, std::span<const int64_t> counts);

/// partial [sum(counts), ...] -> own rows of the sum over ranks [counts[rank], ...]; backward gathers.
at::Tensor scatter_sum_rows(const at::Tensor& partial, comm::Communicator& tp, std::span<const int64_t> counts);

/// Own rows [counts[rank], H] for token [sum(counts)] int64 from a vocabulary slice (weight.sharding, dim 0).
at::Tensor embedding(const at::Tensor& token, const ops::Parameter& weight, comm::Communicator& tp,
                     std::span<const int64_t> counts);

/// ops::selected_logprob with the vocabulary split over tp: hidden [R,H] and targets (whole-vocabulary ids) the same on
/// every rank, weight a slice [V_r,H]. One gather of (lse, entropy, best logit, target logits) a call. The result is
/// the same on every rank; the gradient of `hidden` is this rank's share (hidden comes from gather_rows, which sums
/// it).
ops::SelectedLogprob selected_logprob(const at::Tensor& hidden, const ops::Parameter& weight,
                                      const at::Tensor& score_row, const at::Tensor& target, comm::Communicator& tp,
                                      double temperature = 1.0, bool keeps_logits = false);

/// [R] in the accumulation dtype: KL(base || own) of each row over the whole vocabulary (ops/partial_kl.hpp), from rows
/// [R,H] and heads, whole ones where `tp` is null or alone, else equal slices; one gather a call. Differentiable in
/// `hidden` and the head's main grad, not in the base; the result is the same on every rank, and `hidden` gets this
/// rank's share, as from selected_logprob.
at::Tensor base_kl(const at::Tensor& hidden, const ops::Parameter& weight, const at::Tensor& base_hidden,
                   const ops::Parameter& base_weight, double temperature, comm::Communicator* tp);

/// Collective. Completes the main grads whose Sharding::sum asks for it; sums in ascending rank order, coalesced.
/// `replicas` is the communicator of the tp ranks with this rank's KV heads (undefined use when no parameter needs it).
void sum_replicated_gradients(std::span<const ops::ParameterPtr> parameters, comm::Communicator& tp,
                              comm::Communicator& replicas);

}  // namespace fpdist::parallel
