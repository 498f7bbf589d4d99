#include "kernels/nf4/nf4_composed.hpp"

#include <ATen/ATen.h>

#include <vector>

namespace fpdist::kernels {
namespace {

/// The table on the code's device, without a copy from the host.
at::Tensor table_like(const at::Tensor& code) {
  at::Tensor table = at::empty({16}, code.options().dtype(at::kFloat));
  for (size_t q = 0; q < kNf4Table.size(); ++q) table.select(0, static_cast<int64_t>(q)).fill_(kNf4Table[q]);
  return table;
}

}  // namespace

at::Tensor nf4_scales(const Nf4Arguments& in) {
  if (!in.is_nested()) return in.absmax;
  const int64_t blocks = in.absmax.size(0);
  const at::Tensor of_group = in.nested_absmax->repeat_interleave(in.nested_block).narrow(0, 0, blocks);
  return in.nested_map->index_select(0, in.absmax.to(at::kInt)).mul_(of_group).add_(in.nested_offset);
}

at::Tensor composed_dequantize_nf4(const Nf4Arguments& in) {
  const int64_t n = in.elements();
  const at::Tensor halves = at::stack({in.code.bitwise_right_shift(4), in.code.bitwise_and(15)}, 1).flatten();
  const at::Tensor value = table_like(in.code).index_select(0, halves.narrow(0, 0, n).to(at::kInt));
  const at::Tensor scale = nf4_scales(in).repeat_interleave(in.block).narrow(0, 0, n);
  return (value * scale).to(in.stored).to(in.dtype).view(in.sizes);
}

}  // namespace fpdist::kernels
