#pragma once
// optim: the norm of a gradient that is spread over ranks, and what it is clipped by.

#include <ATen/core/Tensor.h>

#include <span>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::optim {

/// Collective on `axis`. Euclidean norm, 0-dim float64 on device `where`, of the gradient whose disjoint parts the
/// ranks hold, each in flat pieces on that device: float64 sums of squares, added piece by piece, then over the ranks.
/// Nothing waits for the device.
at::Tensor global_norm(std::span<const at::Tensor> pieces, comm::Communicator& axis, at::Device where = at::kCPU);

/// torch.nn.utils.clip_grad_norm_'s coefficient, 0-dim: min(1, max_norm / (norm + 1e-6)); 1 when max_norm is 0. A norm
/// that is NaN stays NaN.
at::Tensor clip_coefficient(const at::Tensor& norm, double max_norm);

}  // namespace fpdist::optim
