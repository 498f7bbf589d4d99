#include "kernels/keyed_dropout/keyed_dropout.hpp"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"

namespace fpdist::kernels {

at::Tensor keyed_dropout(const at::Tensor& x, const at::Tensor& key, int64_t stream, double p, int64_t first_column) {
  static const auto op = find_operator<decltype(keyed_dropout)>("fpdist::keyed_dropout");
  return op.call(x, key, stream, p, first_column);
}

void check_keyed_dropout(const at::Tensor& x, const at::Tensor& key, double p) {
  check_model_tensor("keyed_dropout", "x", x, 2);
  check_dtype("keyed_dropout", "key", key, at::kLong);
  check_device("keyed_dropout", "key", key, x);
  check(key.dim() == 1 && key.size(0) == x.size(0), "keyed_dropout: key has shape ", key.sizes(),
        ", needs one for each of the ", x.size(0), " rows");
  check(p >= 0 && p < 1, "keyed_dropout: p is ", p, ", needs 0 or more and less than 1");
}

int64_t keyed_dropout_bound(double p) { return std::llround(std::ldexp(1.0 - p, 53)); }

namespace {

at::Tensor keyed_dropout_meta(const at::Tensor& x, const at::Tensor& key, int64_t, double p, int64_t) {
  check_keyed_dropout(x, key, p);
  return at::empty(x.sizes(), x.options());
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def("keyed_dropout(Tensor x, Tensor key, int stream, float p, int first_column=0) -> Tensor");
}

TORCH_LIBRARY_IMPL(fpdist, Meta, m) { m.impl("keyed_dropout", fpdist::kernels::keyed_dropout_meta); }
