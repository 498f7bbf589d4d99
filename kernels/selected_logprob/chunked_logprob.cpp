#include "kernels/selected_logprob/chunked_logprob.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "kernels/common/checks.hpp"

namespace fpdist::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kAlignment = 8;  // elements: rows of 16 bytes in bfloat16 too, which cuBLASLt's fast kernels want

/// visit(chunk's scores, its hidden rows, its logits) for every chunk, all of whose logits share one chunk's memory.
template <typename Visit>
void for_chunks(const at::Tensor& hidden, const at::Tensor& weight, const LogitScores& scores, const ChunkWork& work,
                Visit visit) {
  const int64_t rows = hidden.size(0), vocabulary = weight.size(0);
  const at::TensorOptions options = hidden.options().dtype(accumulate_dtype_of(hidden.scalar_type()));
  const int64_t step = rows_of_chunk(rows, vocabulary, static_cast<int64_t>(options.dtype().itemsize()), work.bytes);
  const int64_t stride = (vocabulary + kAlignment - 1) / kAlignment * kAlignment;
  const at::Tensor memory = at::empty({std::min(step, rows), stride}, options).narrow(1, 0, vocabulary);
  LogitScores own = scores;
  for (own.first_row = 0; own.first_row < rows; own.first_row += step) {
    const int64_t count = std::min(step, rows - own.first_row);
    const at::Tensor chunk = hidden.narrow(0, own.first_row, count);
    at::Tensor logits = memory.narrow(0, 0, count);
    work.product(chunk, false, weight, true, logits, /*accumulates=*/false);
    visit(own, chunk, logits);
  }
}

}  // namespace

int64_t rows_of_chunk(int64_t rows, int64_t vocabulary, int64_t element_bytes, int64_t chunk_bytes) {
  const int64_t most = std::max<int64_t>(1, chunk_bytes / std::max<int64_t>(1, vocabulary * element_bytes));
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return std::max<int64_t>(1, (rows + chunks - 1) / chunks);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> chunked_logprob(const at::Tensor& hidden,
                                                                                       const at::Tensor& weight,
                                                                                       const LogitScores& scores,
                                                                                       bool is_relative,
                                                                                       const ChunkWork& work) {
  const auto options = hidden.options().dtype(accumulate_dtype_of(hidden.scalar_type()));
  const int64_t rows = hidden.size(0);
  LogitResults results{.logit = at::empty({scores.row.size(0)}, options),
                       .lse = at::empty({rows}, options),
                       .entropy = at::empty({rows}, options),
                       .best = at::empty({rows}, options),
                       .argmax = at::empty({rows}, options.dtype(at::kLong)),
                       .is_relative = is_relative};
  if (weight.size(0) == 0) {
    for (at::Tensor* const none : {&results.logit, &results.lse, &results.best}) none->fill_(-kInfinity);
    results.entropy.zero_(), results.argmax.zero_();
  } else {
    for_chunks(hidden, weight, scores, work, [&](const LogitScores& own, const at::Tensor&, at::Tensor& logits) {
      work.statistics(logits, own, results);
    });
  }
  return {results.logit, results.lse, results.entropy, results.best, results.argmax};
}

at::Tensor chunked_logprob_backward(const LogitGradients& of, const at::Tensor& hidden, const at::Tensor& weight,
                                    const LogitScores& scores, const std::optional<at::Tensor>& grad_weight,
                                    bool accumulates, const ChunkWork& work) {
  if (hidden.size(0) == 0 || weight.size(0) == 0) {
    if (grad_weight && !accumulates) grad_weight->zero_();
    return at::zeros(hidden.sizes(), hidden.options());
  }
  at::Tensor dh = at::empty(hidden.sizes(), hidden.options()), dw = grad_weight.value_or(at::Tensor());
  for_chunks(hidden, weight, scores, work, [&](const LogitScores& own, const at::Tensor& chunk, at::Tensor& logits) {
    const at::Tensor dz = work.gradient(logits, own, of, hidden.scalar_type());
    at::Tensor dh_chunk = dh.narrow(0, own.first_row, chunk.size(0));
    work.product(dz, false, weight, false, dh_chunk, /*accumulates=*/false);
    if (dw.defined()) work.product(dz, true, chunk, false, dw, accumulates || own.first_row > 0);
  });
  return dh;
}

}  // namespace fpdist::kernels
