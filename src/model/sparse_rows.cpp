#include "src/model/sparse_rows.hpp"

#include <ATen/ATen.h>

#include "fpdist/ops/functional.hpp"

namespace fpdist::model {

at::Tensor sparse_attention(const kernels::AttentionInputs& in, const kernels::AttentionOptions& options,
                            SparseRows& rows) {
  at::Tensor out = at::empty_like(in.q);
  for (const SparseRows::Window& window : rows.window) {
    const kernels::AttentionInputs path{in.q.narrow(0, window.begin, window.rows), in.k.index_select(0, window.path),
                                        in.v.index_select(0, window.path)};
    out.narrow(0, window.begin, window.rows).copy_(ops::flex_prefill(path, options.scale, rows.search, rows.area));
  }
  if (rows.whole.numel() == 0) return out;
  const at::Tensor q = in.q.index_select(0, rows.whole);
  return out.index_copy_(0, rows.whole, ops::tree_attention({q, in.k, in.v}, rows.seen, options, nullptr).out);
}

}  // namespace fpdist::model
