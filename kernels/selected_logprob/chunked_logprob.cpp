#include "kernels/selected_logprob/chunked_logprob.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "kernels/common/checks.hpp"

namespace fpdist::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kAlignment = 8;  // elements: rows of 16 bytes in bfloat16 too, which cuBLASLt's fast kernels want

constexpr int64_t kTile = 128;  // rows of a product that a GPU computes at once

/// The chunks of these rows, and memory for the logits of one at a time.
class Chunks {
 public:
  Chunks(const at::Tensor& hidden, const at::Tensor& weight, const ChunkWork& work)
      : hidden_(hidden), weight_(weight), options_(hidden.options().dtype(accumulate_dtype_of(hidden.scalar_type()))) {
    step_ =
        rows_of_chunk(hidden.size(0), weight.size(0), static_cast<int64_t>(options_.dtype().itemsize()), work.bytes);
    count_ = (hidden.size(0) + step_ - 1) / step_;
  }
  int64_t count() const { return count_; }
  at::Tensor memory() const {
    const int64_t vocabulary = weight_.size(0), stride = (vocabulary + kAlignment - 1) / kAlignment * kAlignment;
    return at::empty({std::min(step_, hidden_.size(0)), stride}, options_).narrow(1, 0, vocabulary);
  }
  int64_t first_row(int64_t chunk) const { return chunk * step_; }
  at::Tensor hidden(int64_t chunk) const {
    return hidden_.narrow(0, first_row(chunk), std::min(step_, hidden_.size(0) - first_row(chunk)));
  }
  at::Tensor logits(int64_t chunk, const at::Tensor& memory) const {
    return memory.narrow(0, 0, hidden(chunk).size(0));
  }

 private:
  at::Tensor hidden_, weight_;
  at::TensorOptions options_;
  int64_t step_ = 1, count_ = 0;
};

}  // namespace

int64_t rows_of_chunk(int64_t rows, int64_t vocabulary, int64_t element_bytes, int64_t chunk_bytes) {
  const int64_t most = std::max<int64_t>(1, chunk_bytes / std::max<int64_t>(1, vocabulary * element_bytes));
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  const int64_t even = std::max<int64_t>(1, (rows + chunks - 1) / chunks), tiles = (even + kTile - 1) / kTile * kTile;
  return tiles <= most ? tiles : even;
}

ChunkedLogprob chunked_logprob(const at::Tensor& hidden, const at::Tensor& weight, const LogitScores& scores,
                               bool is_relative, const ChunkWork& work) {
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
    return {results, {}};
  }
  const Chunks chunks(hidden, weight, work);
  const at::Tensor memory = chunks.memory();
  LogitScores own = scores;
  for (int64_t i = 0; i < chunks.count(); ++i) {
    at::Tensor logits = chunks.logits(i, memory);
    own.first_row = chunks.first_row(i);
    work.product(chunks.hidden(i), false, weight, true, logits, /*accumulates=*/false);
    work.statistics(logits, own, results);
  }
  return {results, memory};
}

at::Tensor chunked_logprob_backward(const LogitGradients& of, const at::Tensor& hidden, const at::Tensor& weight,
                                    const LogitScores& scores, const std::optional<at::Tensor>& grad_weight,
                                    bool accumulates, const ChunkWork& work, const std::optional<at::Tensor>& memory) {
  if (hidden.size(0) == 0 || weight.size(0) == 0) {
    if (grad_weight && !accumulates) grad_weight->zero_();
    return at::zeros(hidden.sizes(), hidden.options());
  }
  at::Tensor dh = at::empty(hidden.sizes(), hidden.options()), dw = grad_weight.value_or(at::Tensor());
  const Chunks chunks(hidden, weight, work);
  const at::Tensor place = memory ? *memory : chunks.memory();
  LogitScores own = scores;
  for (int64_t i = chunks.count(); i-- > 0;) {
    const bool is_first = i + 1 == chunks.count();
    const at::Tensor rows = chunks.hidden(i);
    at::Tensor logits = chunks.logits(i, place), dh_rows = dh.narrow(0, chunks.first_row(i), rows.size(0));
    own.first_row = chunks.first_row(i);
    if (!memory || !is_first) work.product(rows, false, weight, true, logits, /*accumulates=*/false);
    const at::Tensor dz = work.gradient(logits, own, of, hidden.scalar_type());
    work.product(dz, false, weight, false, dh_rows, /*accumulates=*/false);
    if (dw.defined()) work.product(dz, true, rows, false, dw, accumulates || !is_first);
  }
  return dh;
}

}  // namespace fpdist::kernels
