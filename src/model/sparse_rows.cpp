#include "src/model/sparse_rows.hpp"

#include <ATen/ATen.h>

#include "fpdist/ops/functional.hpp"

namespace fpdist::model {
namespace {

/// The rows of `all` at `path`; where they lie side by side, as those of a prompt that shares none, no copy.
at::Tensor rows_at(const at::Tensor& all, const at::Tensor& path) {
  const int64_t first = path[0].item<int64_t>(), rows = path.size(0);
  if (path[-1].item<int64_t>() - first + 1 == rows) return all.narrow(0, first, rows);  // places ascend
  return all.index_select(0, path);
}

}  // namespace

at::Tensor sparse_attention(const kernels::AttentionInputs& in, const kernels::AttentionOptions& options,
                            SparseRows& rows) {
  at::Tensor out = at::empty_like(in.q);
  for (const SparseRows::Window& window : rows.window) {
    const kernels::AttentionInputs path{in.q.narrow(0, window.begin, window.rows), rows_at(in.k, window.path),
                                        rows_at(in.v, window.path)};
    out.narrow(0, window.begin, window.rows).copy_(ops::flex_prefill(path, options.scale, rows.search, rows.area));
  }
  if (rows.whole.numel() == 0) return out;
  const at::Tensor q = in.q.index_select(0, rows.whole);
  return out.index_copy_(0, rows.whole, ops::tree_attention({q, in.k, in.v}, rows.seen, options, nullptr).out);
}

}  // namespace fpdist::model
