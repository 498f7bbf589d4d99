#include "kernels/linear/host_product.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/linear/gemm_call.hpp"

// Of oneMKL, which x86's torch has inside; null where it is missing. bfloat16 by its bits.
extern "C" __attribute__((weak)) void cblas_gemm_bf16bf16f32(int layout, int transpose_a, int transpose_b, int m, int n,
                                                             int k, float alpha, const uint16_t* a, int lda,
                                                             const uint16_t* b, int ldb, float beta, float* c, int ldc);

namespace fpdist::kernels {
namespace {

constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;  // cblas.h

bool fits_int(const at::Tensor& matrix) {
  return std::max(matrix.size(0), std::max(matrix.size(1), matrix.stride(0))) <= std::numeric_limits<int>::max();
}

const uint16_t* bits(const at::Tensor& x) { return static_cast<const uint16_t*>(x.const_data_ptr()); }

}  // namespace

void host_product(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, at::Tensor& d,
                  bool accumulates) {
  const bool is_mixed = a.scalar_type() == at::kBFloat16 && d.scalar_type() == at::kFloat;
  if (!is_mixed || !cblas_gemm_bf16bf16f32 || !fits_int(a) || !fits_int(b) || !fits_int(d) || !has_rows(d))
    return aten_product(a, transpose_a, b, transpose_b, d, accumulates);
  if (a.numel() == 0 || b.numel() == 0) {
    if (!accumulates) d.zero_();
    return;
  }
  const at::Tensor left = has_rows(a) ? a : a.contiguous(), right = has_rows(b) ? b : b.contiguous();
  const GemmCall call = product_call(left, transpose_a, right, transpose_b, d, accumulates);
  // Row by row, the operands stand where they were: the call's a is this b.
  cblas_gemm_bf16bf16f32(kRowMajor, transpose_a ? kTransposed : kPlain, transpose_b ? kTransposed : kPlain,
                         static_cast<int>(call.n), static_cast<int>(call.m), static_cast<int>(call.k), 1.0f, bits(left),
                         static_cast<int>(call.ldb), bits(right), static_cast<int>(call.lda), accumulates ? 1.0f : 0.0f,
                         d.mutable_data_ptr<float>(), static_cast<int>(call.ldd));
}

}  // namespace fpdist::kernels
