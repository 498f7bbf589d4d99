// keyed_dropout on the GPU: ATen's operations.
#include <torch/library.h>

#include "kernels/keyed_dropout/keyed_dropout.hpp"
#include "kernels/keyed_dropout/keyed_dropout_composed.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor keyed_dropout_cuda(const at::Tensor& x, const at::Tensor& key, int64_t stream, double p,
                              int64_t first_column) {
  check_keyed_dropout(x, key, p);
  return composed_keyed_dropout(x, key, stream, p, first_column);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) { m.impl("keyed_dropout", fpdist::kernels::keyed_dropout_cuda); }
