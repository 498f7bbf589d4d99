#include "src/loss/segments.hpp"

#include <ATen/ATen.h>

#include <limits>

#include "fpdist/core/error.hpp"
#include "src/ops/segments.hpp"

namespace fpdist::loss {
namespace {

// A pack without elements contributes the identity of its combination, so that empty ranks change nothing.
at::Tensor extreme_or(const at::Tensor& values, bool largest) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (values.numel() == 0) return at::full({}, largest ? -infinity : infinity, values.options());
  return largest ? values.detach().max() : values.detach().min();
}

}  // namespace

void require(const at::Tensor& tensor, int64_t size, const char* name, const char* loss) {
  check(tensor.defined(), "the ", loss, " loss needs edges.", name, ", which is undefined");
  check(tensor.dim() == 1 && tensor.size(0) == size, "the ", loss, " loss needs edges.", name, " of shape [", size,
        "], got ", tensor.sizes());
}

at::Tensor weighted(const at::Tensor& terms, const at::Tensor& weight, const char* name, const char* loss) {
  if (!weight.defined()) return terms;
  require(weight, terms.size(0), name, loss);
  return terms * weight;
}

at::Tensor segment_sum(const at::Tensor& per_edge, const Edges& edges) {
  return ops::sum_rows(per_edge, edges.sample, edges.length.size(0));
}

at::Tensor at_edges(const at::Tensor& per_sample, const Edges& edges) {
  return ops::pick_rows(per_sample, edges.sample);
}

at::Tensor place_in_sample(const Edges& edges) {
  const at::Tensor first = edges.length.cumsum(0) - edges.length;
  return at::arange(edges.sample.numel(), edges.length.options()) - at_edges(first, edges);
}

at::Tensor length_or_one(const Edges& edges) { return edges.length.clamp_min(1); }

at::Tensor chosen(const at::Tensor& per_sample) { return per_sample.reshape({per_sample.size(0) / 2, 2}).select(1, 0); }
at::Tensor rejected(const at::Tensor& per_sample) {
  return per_sample.reshape({per_sample.size(0) / 2, 2}).select(1, 1);
}

Metric mean_of(const at::Tensor& values) {
  return {Combine::kMean, values.detach().sum(), at::scalar_tensor(static_cast<double>(values.numel()), at::kDouble)};
}

Metric mean_of(const at::Tensor& values, const at::Tensor& mask) {
  return {Combine::kMean, (values.detach() * mask).sum(), mask.sum()};
}

Metric mean_over(const at::Tensor& sums, const at::Tensor& counts) {
  return {Combine::kMean, sums.detach().sum(), counts.detach().sum()};
}

Metric min_of(const at::Tensor& values) { return {Combine::kMin, extreme_or(values, false), {}}; }
Metric max_of(const at::Tensor& values) { return {Combine::kMax, extreme_or(values, true), {}}; }
Metric min_of(const at::Tensor& values, const at::Tensor& mask) {
  return min_of(values.masked_fill(mask.logical_not(), std::numeric_limits<double>::infinity()));
}
Metric max_of(const at::Tensor& values, const at::Tensor& mask) {
  return max_of(values.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity()));
}

}  // namespace fpdist::loss
