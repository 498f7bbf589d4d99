// CPU twin of rms_norm: one pass a row while it sits in the cache; the scale is recomputed in backward, nothing is
// kept.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/vector_math.hpp"
#include "kernels/rms_norm/rms_norm.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kRowsPerBlock = 32;  // one partial sum of dw a block: fixed, so that threads do not change the order

template <typename A>
A sum_lanes(const A* lane) {
  A sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += lane[l];
  return sum;
}

template <typename T, typename A>
A inverse_rms(const T* x, int64_t width, A eps) {
  A lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lane[l] += static_cast<A>(x[i + l]) * static_cast<A>(x[i + l]);
  for (; i < width; ++i) lane[0] += static_cast<A>(x[i]) * static_cast<A>(x[i]);
  return A(1) / std::sqrt(sum_lanes(lane) / static_cast<A>(width) + eps);
}

template <typename T, typename A>
void forward_row(const T* x, const T* weight, T* y, int64_t width, A eps) {
  const A scale = inverse_rms(x, width, eps);
  for (int64_t i = 0; i < width; ++i) {
    const T normed = static_cast<T>(static_cast<A>(x[i]) * scale);
    y[i] = static_cast<T>(static_cast<A>(weight[i]) * static_cast<A>(normed));
  }
}

template <typename T, typename A>
void backward_row(const T* dy, const T* x, const T* weight, T* dx, A* dw, int64_t width, A eps) {
  const A scale = inverse_rms(x, width, eps);
  A lane[kLanes] = {};
  int64_t i = 0;
  const auto product = [&](int64_t j) {
    return static_cast<A>(dy[j]) * static_cast<A>(weight[j]) * static_cast<A>(x[j]);
  };
  for (; i + kLanes <= width; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lane[l] += product(i + l);
  for (; i < width; ++i) lane[0] += product(i);
  const A pull = sum_lanes(lane) * scale * scale * scale / static_cast<A>(width);
  for (int64_t j = 0; j < width; ++j) {
    const A value = static_cast<A>(x[j]), grad = static_cast<A>(dy[j]);
    dw[j] += grad * static_cast<A>(static_cast<T>(value * scale));
    dx[j] = static_cast<T>(scale * grad * static_cast<A>(weight[j]) - pull * value);
  }
}

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& weight, double eps, const std::optional<at::Tensor>&) {
  check_rms_norm(x, weight);
  const at::Tensor in = x.contiguous(), w = weight.contiguous();
  at::Tensor y = at::empty_like(in);
  const int64_t width = x.size(1);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rms_norm", [&] {
    using A = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const scalar_t *from = in.const_data_ptr<scalar_t>(), *weights = w.const_data_ptr<scalar_t>();
    scalar_t* to = y.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, x.size(0), kRowsPerBlock, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        forward_row(from + row * width, weights, to + row * width, width, static_cast<A>(eps));
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
    using A = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const scalar_t *from = in.const_data_ptr<scalar_t>(), *weights = w.const_data_ptr<scalar_t>();
    const scalar_t* grad = dy.const_data_ptr<scalar_t>();
    scalar_t* to = dx.mutable_data_ptr<scalar_t>();
    A* partial = dw.mutable_data_ptr<A>();
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
