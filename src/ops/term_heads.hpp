#pragma once
// ops (private): the heads of an attention term's weights that some queries are of.

#include "src/ops/attention_term.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {

/// Of a tensor whose dim `dim` goes over heads.
inline at::Tensor of_heads(const at::Tensor& all, int64_t dim, const HeadPart& heads) {
  const int64_t size = all.size(dim) / heads.parts;
  return all.narrow(dim, heads.part * size, size);
}

/// Adds the gradient of these heads to the main grad, where there is one.
inline void put_of_heads(const Parameter& parameter, int64_t dim, const HeadPart& heads, const at::Tensor& gradient) {
  if (!parameter.main_grad.defined()) return;
  MainGrad(parameter).put([&](at::Tensor& sum, bool accumulates) {
    if (!accumulates) sum.zero_();
    of_heads(sum, dim, heads).add_(gradient);
  });
}

}  // namespace fpdist::ops
