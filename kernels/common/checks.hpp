#pragma once
// kernels: the checks that every family makes on its arguments.

#include <ATen/core/Tensor.h>

#include "fpdist/core/error.hpp"

namespace fpdist::kernels {

/// float64 for float64, else float32: the dtype of everything that adds up.
inline at::ScalarType accumulate_dtype_of(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

inline bool is_model_dtype(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kDouble;
}

/// Throws ShapeError unless `tensor` has that many dims and a dtype that a model can have.
inline void check_model_tensor(const char* op, const char* name, const at::Tensor& tensor, int64_t dims) {
  check(tensor.defined(), op, ": ", name, " is undefined: pass a tensor");
  check(tensor.dim() == dims, op, ": ", name, " has ", tensor.dim(), " dims, needs ", dims);
  check(is_model_dtype(tensor.scalar_type()), op, ": ", name, " is ", tensor.scalar_type(),
        ", needs float32, bfloat16 or float64");
}

inline void check_dtype(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType dtype) {
  check(tensor.scalar_type() == dtype, op, ": ", name, " is ", tensor.scalar_type(), ", needs ", dtype);
}

inline void check_sizes(const char* op, const char* name, const at::Tensor& tensor, at::IntArrayRef sizes) {
  check(tensor.sizes() == sizes, op, ": ", name, " has shape ", tensor.sizes(), ", needs ", sizes);
}

inline void check_device(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& like) {
  check(tensor.device() == like.device(), op, ": ", name, " is on ", tensor.device(), ", the first tensor on ",
        like.device(), ": move one of them");
}

}  // namespace fpdist::kernels
