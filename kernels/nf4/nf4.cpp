#include "kernels/nf4/nf4.hpp"

#include <ATen/ops/empty.h>
#include <c10/util/accumulate.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"

namespace fpdist::kernels {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

at::Tensor dequantize_nf4_flat(const at::Tensor& code, const at::Tensor& absmax, const OptionalTensor& nested_absmax,
                               const OptionalTensor& nested_map, double nested_offset, at::IntArrayRef sizes,
                               int64_t block, int64_t nested_block, at::ScalarType stored, at::ScalarType dtype) {
  static const auto op = find_operator<decltype(dequantize_nf4_flat)>("fpdist::dequantize_nf4");
  return op.call(code, absmax, nested_absmax, nested_map, nested_offset, sizes, block, nested_block, stored, dtype);
}

at::Tensor dequantize_nf4_meta(const at::Tensor& code, const at::Tensor& absmax, const OptionalTensor& nested_absmax,
                               const OptionalTensor& nested_map, double nested_offset, at::IntArrayRef sizes,
                               int64_t block, int64_t nested_block, at::ScalarType stored, at::ScalarType dtype) {
  check_nf4({code, absmax, nested_absmax, nested_map, nested_offset, sizes, block, nested_block, stored, dtype});
  return at::empty(sizes, code.options().dtype(dtype));
}

int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

void check_vector(const char* name, const at::Tensor& vector, int64_t size, at::ScalarType dtype,
                  const at::Tensor& like) {
  check_dtype("dequantize_nf4", name, vector, dtype);
  check_device("dequantize_nf4", name, vector, like);
  check_sizes("dequantize_nf4", name, vector, {size});
  check(vector.is_contiguous(), "dequantize_nf4: ", name, " must be contiguous");
}

}  // namespace

int64_t Nf4::elements() const { return c10::multiply_integers(sizes); }

int64_t Nf4::bytes() const {
  int64_t all = 0;
  for (const at::Tensor* tensor : {&code, &absmax, &nested_absmax, &nested_map})
    if (tensor->defined()) all += static_cast<int64_t>(tensor->nbytes());
  return all;
}

int64_t Nf4Arguments::elements() const { return c10::multiply_integers(sizes); }

at::Tensor dequantize_nf4(const Nf4& matrix, at::ScalarType dtype) {
  const auto given = [](const at::Tensor& tensor) { return tensor.defined() ? OptionalTensor(tensor) : std::nullopt; };
  return dequantize_nf4_flat(matrix.code, matrix.absmax, given(matrix.nested_absmax), given(matrix.nested_map),
                             matrix.nested_offset, matrix.sizes, matrix.block, matrix.nested_block, matrix.stored,
                             dtype);
}

void check_nf4(const Nf4Arguments& in) {
  check(in.code.defined() && in.absmax.defined(), "dequantize_nf4: code or absmax is undefined: pass tensors");
  // A lane takes 8 elements, which must have one scale.
  check(in.block >= 8 && in.block % 8 == 0 && in.nested_block >= 1, "dequantize_nf4: blocks of ", in.block, " and ",
        in.nested_block, ", needs a multiple of 8 and 1 or more");
  check(is_model_dtype(in.dtype), "dequantize_nf4: dtype is ", in.dtype, ", needs float32, bfloat16 or float64");
  check(in.stored == at::kFloat || in.stored == at::kBFloat16 || in.stored == at::kHalf, "dequantize_nf4: stored is ",
        in.stored, ", needs float32, bfloat16 or float16");
  const int64_t n = in.elements(), blocks = parts(n, in.block);
  check_vector("code", in.code, parts(n, 2), at::kByte, in.code);
  check_vector("absmax", in.absmax, blocks, in.is_nested() ? at::kByte : at::kFloat, in.code);
  if (!in.is_nested()) return;
  check(in.nested_map.has_value() && in.nested_map->defined(), "dequantize_nf4: nested scales without their map");
  check_vector("nested_absmax", *in.nested_absmax, parts(blocks, in.nested_block), at::kFloat, in.code);
  check_vector("nested_map", *in.nested_map, 256, at::kFloat, in.code);
}

}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "dequantize_nf4(Tensor code, Tensor absmax, Tensor? nested_absmax, Tensor? nested_map, float nested_offset, "
      "int[] sizes, int block, int nested_block, ScalarType stored, ScalarType dtype) -> Tensor");
}

TORCH_LIBRARY_IMPL(fpdist, Meta, m) { m.impl("dequantize_nf4", fpdist::kernels::dequantize_nf4_meta); }
