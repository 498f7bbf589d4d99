#include "kernels/keyed_dropout/keyed_dropout_composed.hpp"

#include <ATen/ATen.h>

#include "kernels/common/wide.hpp"
#include "kernels/keyed_dropout/keyed_dropout.hpp"
#include "src/core/mix.hpp"

namespace fpdist::kernels {
namespace {

/// The same of unsigned numbers: what the sign brings in goes out.
at::Tensor shifted(const at::Tensor& x, int64_t bits) {
  return x.bitwise_right_shift(bits).bitwise_and_((int64_t{1} << (64 - bits)) - 1);
}

/// mixed() of every element; products of int64 wrap as those of uint64 do.
at::Tensor all_mixed(const at::Tensor& x) {
  at::Tensor y = x.bitwise_xor(shifted(x, 30)).mul_(static_cast<int64_t>(0xbf58476d1ce4e5b9ULL));
  y = y.bitwise_xor(shifted(y, 27)).mul_(static_cast<int64_t>(0x94d049bb133111ebULL));
  return y.bitwise_xor(shifted(y, 31));
}

}  // namespace

at::Tensor composed_keyed_dropout(const at::Tensor& x, const at::Tensor& key, int64_t stream, double p,
                                  int64_t first_column) {
  const at::Tensor row = all_mixed(key.bitwise_xor(stream)).unsqueeze(1);
  const at::Tensor column =
      at::arange(first_column + 1, first_column + 1 + x.size(1), key.options()).mul_(static_cast<int64_t>(kGolden));
  const at::Tensor goes = shifted(all_mixed(row + column), 11).ge(keyed_dropout_bound(p));
  return wide(x).mul(1.0 / (1.0 - p)).masked_fill_(goes, 0).to(x.scalar_type());
}

}  // namespace fpdist::kernels
