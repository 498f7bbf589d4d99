// CPU twin of keyed_dropout: one pass over memory, the mask never in it.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/common/stored.hpp"
#include "kernels/keyed_dropout/keyed_dropout.hpp"
#include "src/core/mix.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kElementsPerTask = 16384;

/// One row; `from` is its state ahead of the first element.
template <typename S>
__attribute__((always_inline)) inline void drop_row(const S* x, S* y, int64_t width, uint64_t from, uint64_t bound,
                                                    Summed<S> scale) {
  for (int64_t c = 0; c < width; ++c) {
    const uint64_t drawn = mixed(from + static_cast<uint64_t>(c + 1) * kGolden);
    y[c] = (drawn >> 11) < bound ? stored<S>(loaded(x[c]) * scale) : S{0};
  }
}

// Clones are no templates.
FPDIST_CPU_CLONES void drop(const float* x, float* y, int64_t n, uint64_t from, uint64_t bound, float scale) {
  drop_row(x, y, n, from, bound, scale);
}
FPDIST_CPU_CLONES void drop(const double* x, double* y, int64_t n, uint64_t from, uint64_t bound, double scale) {
  drop_row(x, y, n, from, bound, scale);
}
FPDIST_CPU_CLONES void drop(const uint16_t* x, uint16_t* y, int64_t n, uint64_t from, uint64_t bound, float scale) {
  drop_row(x, y, n, from, bound, scale);
}

at::Tensor keyed_dropout_cpu(const at::Tensor& x, const at::Tensor& key, int64_t stream, double p,
                             int64_t first_column) {
  check_keyed_dropout(x, key, p);
  const at::Tensor in = x.contiguous(), keys = key.contiguous();
  at::Tensor out = at::empty_like(in);
  const int64_t width = in.size(1),
                rows_per_task = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, width));
  const auto bound = static_cast<uint64_t>(keyed_dropout_bound(p));
  const auto* const of_row = keys.const_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, in.scalar_type(), "keyed_dropout", [&] {
    using S = Stored<scalar_t>;
    const auto scale = static_cast<Summed<S>>(1.0 / (1.0 - p));
    const S* from = data<S>(in);
    S* to = mutable_data<S>(out);
    at::parallel_for(0, in.size(0), rows_per_task, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const uint64_t state = mixed(static_cast<uint64_t>(of_row[r]) ^ static_cast<uint64_t>(stream));
        drop(from + r * width, to + r * width, width, state + static_cast<uint64_t>(first_column) * kGolden, bound,
             scale);
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) { m.impl("keyed_dropout", fpdist::kernels::keyed_dropout_cpu); }
