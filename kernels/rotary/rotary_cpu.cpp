// CPU twin of rotary: one pass, four streams, plain loops that the compiler vectorises for the machine at hand.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/common/checks.hpp"
#include "kernels/common/stored.hpp"
#include "kernels/rotary/rotary.hpp"

namespace fpdist::kernels {
namespace {

template <typename S>
__attribute__((always_inline)) inline void rotate(const S* __restrict x, const Summed<S>* __restrict cos,
                                                  const Summed<S>* __restrict sin, S* __restrict out, int64_t heads,
                                                  int64_t half, Summed<S> sign) {
  for (int64_t head = 0; head < heads; ++head, x += 2 * half, out += 2 * half)
    for (int64_t i = 0; i < half; ++i) {
      const auto a = loaded(x[i]), b = loaded(x[i + half]), turn = sign * sin[i];
      out[i] = stored<S>(a * cos[i] - b * turn);
      out[i + half] = stored<S>(b * cos[i] + a * turn);
    }
}

// A token's heads.
FPDIST_CPU_CLONES void rotate_row(const float* x, const float* cos, const float* sin, float* out, int64_t heads,
                                  int64_t half, float sign) {
  rotate(x, cos, sin, out, heads, half, sign);
}
FPDIST_CPU_CLONES void rotate_row(const double* x, const double* cos, const double* sin, double* out, int64_t heads,
                                  int64_t half, double sign) {
  rotate(x, cos, sin, out, heads, half, sign);
}
FPDIST_CPU_CLONES void rotate_row(const uint16_t* x, const float* cos, const float* sin, uint16_t* out, int64_t heads,
                                  int64_t half, float sign) {
  rotate(x, cos, sin, out, heads, half, sign);
}

at::Tensor rotary_cpu(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  check_rotary(x, cos, sin);
  const at::Tensor in = x.contiguous(), c = cos.contiguous(), s = sin.contiguous();
  at::Tensor out = at::empty_like(in);
  const int64_t heads = in.size(1), half = in.size(2) / 2, width = heads * in.size(2);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rotary", [&] {
    using S = Stored<scalar_t>;
    using A = Summed<S>;
    const S* from = data<S>(in);
    const A *cosines = data<A>(c), *sines = data<A>(s);
    S* to = mutable_data<S>(out);
    const int64_t rows_a_task = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width));
    at::parallel_for(0, in.size(0), rows_a_task, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        rotate_row(from + row * width, cosines + row * half, sines + row * half, to + row * width, heads, half,
                   A(inverse ? -1 : 1));
    });
  });
  return out;
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) { m.impl("rotary", fpdist::kernels::rotary_cpu); }
