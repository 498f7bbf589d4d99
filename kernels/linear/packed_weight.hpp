#pragma once
// linear, on the CPU: a float32 weight as the products read it. A product with few rows spends more on bringing the
// weight into that order than on multiplying: 16 rows go twice as fast behind a weight that is packed already, 128 a
// tenth to a quarter, thousands no slower.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace fpdist::kernels {

struct PackedWeight {
  at::Tensor words;
  int64_t out = 0, in = 0;
};

/// weight [O,I], which may change afterwards: what comes back does not. Null where nothing can be packed: elements that
/// are not float32, another device than the CPU, a torch without MKL.
std::shared_ptr<const PackedWeight> pack_weight(const at::Tensor& weight);

/// As linear, x [T,I] float32: the bits of the unpacked product, but where T is 1 or a dim no multiple of 16. Not
/// differentiable. Throws ShapeError.
at::Tensor packed_linear(const at::Tensor& x, const PackedWeight& weight,
                         const std::optional<at::Tensor>& bias = std::nullopt,
                         const std::optional<at::Tensor>& residual = std::nullopt);

}  // namespace fpdist::kernels
