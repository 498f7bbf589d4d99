// CPU twin of rms_norm: one pass a row while it sits in the cache; the scale is recomputed in backward, nothing is
// kept.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/stored.hpp"
#include "kernels/rms_norm/rms_norm.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kRowsPerBlock = 32;  // one partial sum of dw a block: fixed, so that threads do not change the order

#define FPDIST_INLINE __attribute__((always_inline)) inline

template <typename A>
FPDIST_INLINE A sum_lanes(const A* lane) {
  A sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += lane[l];
  return sum;
}

/// Sum of term(i) over [0, width), sixteen sums at a time.
template <typename A, typename Term>
FPDIST_INLINE A sum_of(int64_t width, Term term) {
  A lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lane[l] += term(i + l);
  for (; i < width; ++i) lane[0] += term(i);
  return sum_lanes(lane);
}

template <typename S>
FPDIST_INLINE Summed<S> inverse_rms(const S* x, int64_t width, Summed<S> eps) {
  using A = Summed<S>;
  const A squares = sum_of<A>(
      width, [x](int64_t i) __attribute__((always_inline)) { return loaded(x[i]) * loaded(x[i]); });
  return A(1) / std::sqrt(squares / static_cast<A>(width) + eps);
}

template <typename S>
FPDIST_INLINE void forward(const S* __restrict x, const S* __restrict weight, S* __restrict y, int64_t width,
                           Summed<S> eps) {
  const Summed<S> scale = inverse_rms(x, width, eps);
  for (int64_t i = 0; i < width; ++i)
    y[i] =
        stored<S>(loaded(weight[i]) * loaded(stored<S>(loaded(x[i]) * scale)));  // rounded twice, as Transformers does
}

template <typename S>
FPDIST_INLINE void backward(const S* __restrict dy, const S* __restrict x, const S* __restrict weight, S* __restrict dx,
                            Summed<S>* __restrict dw, int64_t width, Summed<S> eps) {
  using A = Summed<S>;
  const A scale = inverse_rms(x, width, eps);
  const A products = sum_of<A>(
      width, [=](int64_t i)
                 __attribute__((always_inline)) { return loaded(dy[i]) * loaded(weight[i]) * loaded(x[i]); });
  const A pull = products * scale * scale * scale / static_cast<A>(width);
  for (int64_t i = 0; i < width; ++i) {
    const A value = loaded(x[i]), grad = loaded(dy[i]);
    dw[i] += grad * loaded(stored<S>(value * scale));
    dx[i] = stored<S>(scale * grad * loaded(weight[i]) - pull * value);
  }
}

FPDIST_CPU_CLONES void forward_row(const float* x, const float* weight, float* y, int64_t width, float eps) {
  forward(x, weight, y, width, eps);
}
FPDIST_CPU_CLONES void backward_row(const float* dy, const float* x, const float* weight, float* dx, float* dw,
                                    int64_t width, float eps) {
  backward(dy, x, weight, dx, dw, width, eps);
}
FPDIST_CPU_CLONES void forward_row(const double* x, const double* weight, double* y, int64_t width, double eps) {
  forward(x, weight, y, width, eps);
}
FPDIST_CPU_CLONES void backward_row(const double* dy, const double* x, const double* weight, double* dx, double* dw,
                                    int64_t width, double eps) {
  backward(dy, x, weight, dx, dw, width, eps);
}
FPDIST_CPU_CLONES void forward_row(const uint16_t* x, const uint16_t* weight, uint16_t* y, int64_t width, float eps) {
  forward(x, weight, y, width, eps);
}
FPDIST_CPU_CLONES void backward_row(const uint16_t* dy, const uint16_t* x, const uint16_t* weight, uint16_t* dx,
                                    float* dw, int64_t width, float eps) {
  backward(dy, x, weight, dx, dw, width, eps);
}

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& weight, double eps, const std::optional<at::Tensor>&) {
  check_rms_norm(x, weight);
  const at::Tensor in = x.contiguous(), w = weight.contiguous();
  at::Tensor y = at::empty_like(in);
  const int64_t width = x.size(1);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rms_norm", [&] {
    using S = Stored<scalar_t>;
    const S *from = data<S>(in), *weights = data<S>(w);
    S* to = mutable_data<S>(y);
    at::parallel_for(0, x.size(0), kRowsPerBlock, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        forward_row(from + row * width, weights, to + row * width, width, static_cast<Summed<S>>(eps));
    });
  });
  return y;
}

std::tuple<at::Tensor, at::Tensor> backward_cpu(const at::Tensor& grad_out, const at::Tensor& x,
                                                const at::Tensor& weight, double eps) {
  check_rms_norm_backward(grad_out, x, weight);
  const at::Tensor in = x.contiguous(), w = weight.contiguous(), dy = grad_out.contiguous();
  const int64_t rows = x.size(0), width = x.size(1), blocks = (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  at::Tensor dx = at::empty_like(in);
  at::Tensor dw = at::zeros({blocks, width}, x.options().dtype(accumulate_dtype_of(x.scalar_type())));
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rms_norm_backward", [&] {
    using S = Stored<scalar_t>;
    using A = Summed<S>;
    const S *from = data<S>(in), *weights = data<S>(w), *grad = data<S>(dy);
    S* to = mutable_data<S>(dx);
    A* partial = mutable_data<A>(dw);
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin * kRowsPerBlock; row < std::min(rows, end * kRowsPerBlock); ++row)
        backward_row(grad + row * width, from + row * width, weights, to + row * width,
                     partial + row / kRowsPerBlock * width, width, static_cast<A>(eps));
    });
  });
  return {dx, dw.sum(0)};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("rms_norm", fpdist::kernels::forward_cpu);
  m.impl("rms_norm_backward", fpdist::kernels::backward_cpu);
}
