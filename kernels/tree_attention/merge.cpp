#include "kernels/tree_attention/merge.hpp"

#include <ATen/ATen.h>

#include <limits>

#include "fpdist/core/error.hpp"

namespace fpdist::kernels {

void merge_attention(AttentionOutput& whole, const AttentionOutput& part) {
  check(whole.out.sizes() == part.out.sizes() && whole.lse.sizes() == part.lse.sizes(), "merge_attention: parts of ",
        whole.out.sizes(), " and ", part.out.sizes(), ": merge outputs of the same queries");
  check(whole.out.scalar_type() == part.out.scalar_type() && whole.out.scalar_type() == whole.lse.scalar_type(),
        "merge_attention: out is ", whole.out.scalar_type(), ", the part ", part.out.scalar_type(),
        ": both must be in the accumulation dtype");
  const at::Tensor merged = at::logaddexp(whole.lse, part.lse);
  // A row without keys on either side stays at zero: exp(-inf - lowest), where exp(-inf - -inf) is no number.
  const at::Tensor finite = merged.clamp_min(std::numeric_limits<float>::lowest());
  whole.out.mul_(at::exp(whole.lse - finite).unsqueeze(-1));
  whole.out.addcmul_(part.out, at::exp(part.lse - finite).unsqueeze(-1));
  whole.lse.copy_(merged);
}

}  // namespace fpdist::kernels
