#include "src/model/layerwise_keys.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "fpdist/ops/functional.hpp"

namespace fpdist::model {
namespace {

constexpr int64_t kQueries = 256;  // whose probabilities lie in memory together

/// q [rows,Hq,D] and lse [rows,Hq] of the last of `keys` [N,Hkv,D] rows: adds their probabilities to sum [N].
void add_probabilities(const at::Tensor& q, const at::Tensor& lse, const at::Tensor& keys, double scale,
                       at::Tensor sum) {
  const int64_t heads = q.size(1), group = heads / keys.size(1), all = keys.size(0), before = all - q.size(0);
  for (int64_t begin = 0; begin < q.size(0); begin += kQueries) {
    const int64_t rows = std::min(kQueries, q.size(0) - begin), seen = before + begin + rows;
    const at::Tensor later = at::ones({rows, rows}, at::TensorOptions(at::kBool).device(q.device())).triu_(1);
    for (int64_t h = 0; h < heads; ++h) {
      const at::Tensor k = keys.narrow(0, 0, seen).select(1, h / group).to(lse.scalar_type());
      at::Tensor scores = at::matmul(q.narrow(0, begin, rows).select(1, h).to(lse.scalar_type()), k.t());
      scores.mul_(scale).sub_(lse.narrow(0, begin, rows).select(1, h).unsqueeze(1)).exp_();
      scores.narrow(1, seen - rows, rows).masked_fill_(later, 0);
      sum.narrow(0, 0, seen).add_(scores.sum(0).to(at::kDouble));
    }
  }
}

}  // namespace

at::Tensor layerwise_attention(const ops::AttentionInputs& in, const ops::AttentionOptions& options,
                               LayerwiseKeys& keys, size_t layer) {
  const auto [out, lse] = ops::tree_attention(in, keys.layer[layer].mask, options);
  for (LayerwiseKeys::Counted& run : keys.counted)
    add_probabilities(in.q.narrow(0, run.begin, run.rows), lse.narrow(0, run.begin, run.rows),
                      in.k.narrow(0, run.first[layer], run.keys), options.scale, run.sum[layer]);
  return out;
}

}  // namespace fpdist::model
