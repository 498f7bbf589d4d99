#pragma once
// loss (private): what the loss families share: sums by sample, and metric contributions.

#include <ATen/core/Tensor.h>

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {

/// Throws ShapeError naming the tensor and the loss unless `tensor` is defined and has shape [size].
void require(const at::Tensor& tensor, int64_t size, const char* name, const char* loss);

/// `terms` [N] times `weight`, or as they are where it is undefined. Throws ShapeError as require() does.
at::Tensor weighted(const at::Tensor& terms, const at::Tensor& weight, const char* name, const char* loss);

/// [B] sums of per-edge values [E] by sample; zeros for samples without edges. Differentiable, added up in edge order.
at::Tensor segment_sum(const at::Tensor& per_edge, const Edges& edges);

/// [E] values of per-sample values [B] at their samples' edges. Differentiable.
at::Tensor at_edges(const at::Tensor& per_sample, const Edges& edges);

/// [E] float places of edges in their samples: 0, 1, ...
at::Tensor place_in_sample(const Edges& edges);

/// [B] edges of each sample, at least 1, for dividing.
at::Tensor length_or_one(const Edges& edges);

/// Column 0 (chosen) or 1 (rejected) of per-sample values [B] of a preference pack: [B/2].
at::Tensor chosen(const at::Tensor& per_sample);
at::Tensor rejected(const at::Tensor& per_sample);

/// Mean over all elements of `values`, of any shape, or over those where `mask` is 1.
Metric mean_of(const at::Tensor& values);
Metric mean_of(const at::Tensor& values, const at::Tensor& mask);
/// The sum of `sums` over that of `counts`.
Metric mean_over(const at::Tensor& sums, const at::Tensor& counts);
Metric min_of(const at::Tensor& values);
Metric max_of(const at::Tensor& values);
/// Over those where `mask` (bool, the same shape) is true.
Metric min_of(const at::Tensor& values, const at::Tensor& mask);
Metric max_of(const at::Tensor& values, const at::Tensor& mask);

}  // namespace fpdist::loss
