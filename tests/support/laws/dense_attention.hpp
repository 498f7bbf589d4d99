#pragma once
// Tests: attention by its definition, a dense masked softmax.

#include <ATen/ATen.h>

#include <limits>

#include "fpdist/kernels/attention.hpp"

namespace fpdist::test {

/// Attention by the definition, in q's dtype: O(Tq Tk) memory, differentiable.
inline kernels::AttentionOutput dense_attention(const kernels::AttentionInputs& in, const kernels::AttentionMask& mask,
                                                double scale) {
  const auto& [q, k, v] = in;
  const auto& [q_row, k_row, k_end] = mask;
  const int64_t group = q.size(1) / k.size(1);
  const at::Tensor keys = k.repeat_interleave(group, 1), values = v.repeat_interleave(group, 1);
  const at::Tensor row = q_row.unsqueeze(1);
  const at::Tensor visible = k_row.unsqueeze(0).le(row).logical_and(row.lt(k_end.unsqueeze(0)));
  const at::Tensor scores = at::matmul(q.transpose(0, 1), keys.permute({1, 2, 0})) * scale;
  const at::Tensor masked = scores.masked_fill(visible.logical_not(), -std::numeric_limits<double>::infinity());
  const at::Tensor lse = at::logsumexp(masked, -1);
  const at::Tensor safe = lse.masked_fill(at::isinf(lse), 0.0).unsqueeze(-1);
  const at::Tensor p = at::exp(masked - safe);
  return {at::matmul(p, values.transpose(0, 1)).transpose(0, 1), lse.transpose(0, 1)};
}

}  // namespace fpdist::test
