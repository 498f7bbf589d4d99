#include "kernels/selected_logprob/chunked_logprob.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "kernels/common/checks.hpp"

namespace fpdist::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

int64_t step_of(const at::Tensor& hidden, const at::Tensor& weight, int64_t chunk_bytes) {
  return rows_of_chunk(hidden.size(0), weight.size(0), weight.scalar_type() == at::kDouble ? 8 : 4, chunk_bytes);
}

/// Where each score lies in a chunk: its row there, its column, and whether it has both. The others point at places of
/// the chunk too, spread so that adding their zeros does not queue up at one.
struct ScorePlaces {
  at::Tensor row, column, inside;
};

ScorePlaces places_of(const at::Tensor& score_row, const at::Tensor& target, int64_t begin, int64_t rows) {
  const at::Tensor local = score_row - begin;
  return {local.remainder(rows), target.clamp_min(0),
          local.ge(0).bitwise_and(local.lt(rows)).bitwise_and(target.ge(0))};
}

/// Logits [rows,V] of a chunk in the accumulation dtype, divided by the temperature.
at::Tensor logits_of(const at::Tensor& hidden, const at::Tensor& weight, double temperature, Product product) {
  at::Tensor logits =
      at::empty({hidden.size(0), weight.size(0)}, hidden.options().dtype(accumulate_dtype_of(hidden.scalar_type())));
  product(hidden, false, weight, true, logits, /*accumulates=*/false);
  return temperature == 1 ? logits : logits.div_(temperature);
}

}  // namespace

int64_t rows_of_chunk(int64_t rows, int64_t vocabulary, int64_t element_bytes, int64_t chunk_bytes) {
  const int64_t most = std::max<int64_t>(1, chunk_bytes / std::max<int64_t>(1, vocabulary * element_bytes));
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return std::max<int64_t>(1, (rows + chunks - 1) / chunks);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> chunked_logprob(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, Product product, int64_t chunk_bytes) {
  const auto options = hidden.options().dtype(accumulate_dtype_of(hidden.scalar_type()));
  const int64_t rows = hidden.size(0), step = step_of(hidden, weight, chunk_bytes);
  at::Tensor logit = at::full({score_row.size(0)}, -kInfinity, options), lse = at::full({rows}, -kInfinity, options);
  at::Tensor entropy = at::zeros({rows}, options), best = at::full({rows}, -kInfinity, options);
  at::Tensor argmax = at::zeros({rows}, options.dtype(at::kLong));
  if (weight.size(0) == 0) return {logit, lse, entropy, best, argmax};
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const auto own = [begin, count](const at::Tensor& whole) { return whole.narrow(0, begin, count); };
    at::Tensor logits = logits_of(own(hidden), weight, temperature, product);
    const ScorePlaces place = places_of(score_row, target, begin, count);
    logit = at::where(place.inside, logits.index({place.row, place.column}), logit);
    const auto [highest, index] = logits.max(1, /*keepdim=*/true);
    const at::Tensor below = logits.sub_(highest), weights = at::exp(below);
    const at::Tensor sum = weights.sum(1, /*keepdim=*/true), log_sum = at::log(sum);
    own(lse).copy_((highest + log_sum).squeeze(1));
    own(entropy).copy_((log_sum - below.mul_(weights).sum(1, /*keepdim=*/true) / sum).squeeze(1));
    own(best).copy_(highest.squeeze(1));
    own(argmax).copy_(index.squeeze(1));
  }
  return {logit, lse, entropy, best, argmax};
}

at::Tensor chunked_logprob_backward(const std::optional<at::Tensor>& grad_logp,
                                    const std::optional<at::Tensor>& grad_entropy, const at::Tensor& hidden,
                                    const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
                                    const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                                    const std::optional<at::Tensor>& grad_weight, bool accumulates, Product product,
                                    int64_t chunk_bytes) {
  const int64_t rows = hidden.size(0), step = step_of(hidden, weight, chunk_bytes);
  at::Tensor dh = at::zeros(hidden.sizes(), hidden.options());
  at::Tensor dw = grad_weight.value_or(at::Tensor());
  if (dw.defined() && !accumulates) dw.zero_();
  if (weight.size(0) == 0) return dh;
  // Each row's sum of grad_logp. Accumulating index_put_ sorts on a GPU: one order, the same bits.
  at::Tensor row_grad = at::zeros({rows, 1}, lse.options());
  if (grad_logp) row_grad.index_put_({score_row}, grad_logp->unsqueeze(1), /*accumulate=*/true);
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const auto own = [begin, count](const at::Tensor& whole) { return whole.narrow(0, begin, count); };
    at::Tensor d = logits_of(own(hidden), weight, temperature, product).sub_(own(lse).unsqueeze(1));  // log p
    const at::Tensor p = at::exp(d);
    if (grad_entropy) {
      d.add_(own(entropy).unsqueeze(1)).mul_(own(*grad_entropy).unsqueeze(1)).add_(own(row_grad)).mul_(p).neg_();
    } else {
      d = at::mul(p, own(row_grad)).neg_();
    }
    if (grad_logp) {
      const ScorePlaces place = places_of(score_row, target, begin, count);
      d.index_put_({place.row, place.column}, grad_logp->masked_fill(place.inside.bitwise_not(), 0.0),
                   /*accumulate=*/true);
    }
    const at::Tensor dz = (temperature == 1 ? d : d.div_(temperature)).to(hidden.scalar_type());
    at::Tensor dh_chunk = own(dh);
    product(dz, false, weight, false, dh_chunk, /*accumulates=*/false);
    if (dw.defined()) product(dz, true, own(hidden), false, dw, /*accumulates=*/true);
  }
  return dh;
}

}  // namespace fpdist::kernels
