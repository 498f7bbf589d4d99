// CPU twin of rotary: one pass, four streams, plain loops that the compiler vectorises.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/rotary/rotary.hpp"

namespace fpdist::kernels {
namespace {

template <typename T, typename A>
void rotate_rows(const T* x, const A* cos, const A* sin, T* out, int64_t rows, int64_t heads, int64_t half, A sign) {
  at::parallel_for(0, rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, heads * half)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t row = begin; row < end; ++row) {
                       const A *c = cos + row * half, *s = sin + row * half;
                       for (int64_t head = 0; head < heads; ++head) {
                         const T* in = x + (row * heads + head) * 2 * half;
                         T* to = out + (row * heads + head) * 2 * half;
                         for (int64_t i = 0; i < half; ++i) {
                           const A a = static_cast<A>(in[i]), b = static_cast<A>(in[i + half]), turn = sign * s[i];
                           to[i] = static_cast<T>(a * c[i] - b * turn);
                           to[i + half] = static_cast<T>(b * c[i] + a * turn);
                         }
                       }
                     }
                   });
}

at::Tensor rotary_cpu(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  check_rotary(x, cos, sin);
  const at::Tensor in = x.contiguous(), c = cos.contiguous(), s = sin.contiguous();
  at::Tensor out = at::empty_like(in);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rotary", [&] {
    using A = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    rotate_rows(in.const_data_ptr<scalar_t>(), c.const_data_ptr<A>(), s.const_data_ptr<A>(),
                out.mutable_data_ptr<scalar_t>(), in.size(0), in.size(1), in.size(2) / 2, A(inverse ? -1 : 1));
  });
  return out;
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) { m.impl("rotary", fpdist::kernels::rotary_cpu); }
