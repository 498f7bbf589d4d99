#pragma once
// ops: gathering rows and adding them up by index, differentiable, in a fixed order on every device: the same inputs
// give the same bits. (torch's index_add, which is also index_select's gradient, adds with atomics on a GPU.)

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace fpdist::ops {

/// x [N,...], index [M] int64 in [0,N) -> [M,...].
at::Tensor pick_rows(const at::Tensor& x, const at::Tensor& index);

/// x [M,...], index [M] int64 in [0,N) -> [N,...]: row n is the sum of the x whose index is n, 0 where there is none.
at::Tensor sum_rows(const at::Tensor& x, const at::Tensor& index, int64_t rows);

}  // namespace fpdist::ops
