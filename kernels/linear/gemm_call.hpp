#pragma once
// linear: which cuBLASLt call multiplies these matrices, as a value. cuBLASLt counts column-major; a row-major matrix
// [R,C] with stride ld is to it the column-major matrix [C,R] with leading dim ld, so D = op(A) op(B) is asked for as
// D^T = op(B)^T op(A)^T: the operands change places and keep their own transposition.

#include <ATen/core/Tensor.h>

#include <compare>
#include <cstdint>
#include <optional>

namespace fpdist::kernels {

enum class Epilogue {
  kNone,
  kBias,          ///< adds a vector over the columns of the row-major D (Qwen2's biases)
  kBiasGradient,  ///< writes the sum of the row-major A's rows over the summed dim: db beside dW
};

/// cublasLtMatmul's arguments, pointers aside: D [m,n] = op(a) [m,k] op(b) [k,n] + beta C, all column-major. C has D's
/// shape and dtype and is D itself, or a matrix of its own that is only read.
struct GemmCall {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  int64_t lda = 0, ldb = 0, ldc = 0, ldd = 0;
  at::ScalarType input = at::kFloat, output = at::kFloat;
  Epilogue epilogue = Epilogue::kNone;
  bool accumulates = false;                                                ///< beta = 1
  bool separate_c = false;                                                 ///< C is not D
  int alignment_a = 0, alignment_b = 0, alignment_c = 0, alignment_d = 0;  ///< bytes, powers of two up to 256
  int alignment_vector = 0;                                                ///< the epilogue's; 0: it has none
  auto operator<=>(const GemmCall&) const = default;
};

/// The call that makes the row-major `d` [M,N] (+)= op(a) [M,K] op(b) [K,N]. Note that the call's a is this b. Every
/// tensor needs rows of neighbouring elements (stride 1 along dim 1). Throws ShapeError when the shapes do not fit.
GemmCall product_call(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, const at::Tensor& d,
                      bool accumulates, Epilogue epilogue = Epilogue::kNone);

/// The call that makes the row-major `d` [M,N] = c [M,N] + op(a) op(b) and reads c where it lies; the rows of c and d
/// may be any distance apart. c in d's dtype. As product_call otherwise.
GemmCall sum_call(const at::Tensor& c, const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b,
                  const at::Tensor& d);

/// Bytes, a power of two up to 256.
int alignment_of(const at::Tensor& tensor);

/// From row to row in elements, as products ask for it: a single row's stride says nothing (contiguous() leaves it as
/// it is), and cuBLASLt and MKL want the row's length at least.
int64_t leading_dim(const at::Tensor& matrix);

/// True where product_call can read or write the matrix as it lies in memory.
bool has_rows(const at::Tensor& matrix);

/// How matrices are multiplied: the row-major d [M,N] (+)= op(a) op(b), summed and stored in d's dtype. a and b of one
/// dtype, d of it or of the accumulation dtype.
using Product = void (*)(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, at::Tensor& d,
                         bool accumulates);
/// With ATen's own, on any device.
void aten_product(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, at::Tensor& d,
                  bool accumulates);

}  // namespace fpdist::kernels
