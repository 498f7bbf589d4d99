#include "kernels/linear/gemm_call.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>

#include "kernels/common/checks.hpp"

namespace fpdist::kernels {

int64_t leading_dim(const at::Tensor& matrix) {
  return matrix.size(0) > 1 ? matrix.stride(0) : std::max<int64_t>(1, matrix.size(1));
}

int alignment_of(const at::Tensor& tensor) {
  const auto address = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
  return address == 0 ? 256 : 1 << std::min(8, std::countr_zero(address));
}

bool has_rows(const at::Tensor& matrix) {
  return matrix.dim() == 2 && (matrix.size(1) <= 1 || matrix.stride(1) == 1) &&
         (matrix.size(0) <= 1 || matrix.stride(0) >= std::max<int64_t>(1, matrix.size(1)));
}

GemmCall product_call(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, const at::Tensor& d,
                      bool accumulates, Epilogue epilogue) {
  check(has_rows(a) && has_rows(b) && has_rows(d), "product: a ", a.sizes(), " b ", b.sizes(), " d ", d.sizes(),
        ": every matrix needs rows of neighbouring elements; make it contiguous");
  const int64_t rows = a.size(transpose_a ? 1 : 0), inner = a.size(transpose_a ? 0 : 1);
  const int64_t other = b.size(transpose_b ? 1 : 0), columns = b.size(transpose_b ? 0 : 1);
  check(inner == other && d.size(0) == rows && d.size(1) == columns, "product: [", rows, ",", inner, "] times [", other,
        ",", columns, "] into ", d.sizes());
  check(a.scalar_type() == b.scalar_type(), "product: a is ", a.scalar_type(), ", b ", b.scalar_type());
  return {.m = columns,
          .n = rows,
          .k = inner,
          .transpose_a = transpose_b,
          .transpose_b = transpose_a,
          .lda = leading_dim(b),
          .ldb = leading_dim(a),
          .ldc = leading_dim(d),
          .ldd = leading_dim(d),
          .input = a.scalar_type(),
          .output = d.scalar_type(),
          .epilogue = epilogue,
          .accumulates = accumulates,
          .alignment_a = alignment_of(b),
          .alignment_b = alignment_of(a),
          .alignment_c = alignment_of(d),
          .alignment_d = alignment_of(d)};
}

GemmCall sum_call(const at::Tensor& c, const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b,
                  const at::Tensor& d) {
  GemmCall call = product_call(a, transpose_a, b, transpose_b, d, /*accumulates=*/true);
  check(has_rows(c), "product: c ", c.sizes(), " needs rows of neighbouring elements; make it contiguous");
  check_sizes("product", "c", c, d.sizes());
  check_dtype("product", "c", c, d.scalar_type());
  call.separate_c = true;
  call.ldc = leading_dim(c);
  call.alignment_c = alignment_of(c);
  return call;
}

void aten_product(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, at::Tensor& d,
                  bool accumulates) {
  const auto dtype = d.scalar_type();
  const at::Tensor left = a.to(dtype), right = b.to(dtype);
  d.addmm_(transpose_a ? left.t() : left, transpose_b ? right.t() : right, /*beta=*/accumulates ? 1 : 0);
}

}  // namespace fpdist::kernels
