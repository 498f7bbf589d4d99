#pragma once
// linear, on the CPU: a float32 weight as the products read it. A product with few rows spends more on bringing the
// weight into that order than on multiplying: 16 rows go twice as fast behind a weight that is packed already, 128 a
// tenth to a quarter, thousands no slower.

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace fpdist::kernels {

inline constexpr std::array<int64_t, 1> kOnePart{0};

/// Of the outputs [begin, begin + count).
struct PackedPart {
  at::Tensor words;
  int64_t begin = 0, count = 0;
};

struct PackedWeight {
  std::vector<PackedPart> part;  ///< in order; all outputs
  int64_t out = 0, in = 0;
};

/// weight [O,I], which may change afterwards: what comes back does not. `begins`: of its parts, ascending from 0. Null
/// where nothing can be packed: elements that are not float32, another device than the CPU, a torch without MKL.
std::shared_ptr<const PackedWeight> pack_weight(const at::Tensor& weight, std::span<const int64_t> begins = kOnePart);

/// As linear, x [T,I] float32, of a weight in one part: the bits of the unpacked product, but where T is 1 or a dim no
/// multiple of 16. Not differentiable. Throws ShapeError.
at::Tensor packed_linear(const at::Tensor& x, const PackedWeight& weight,
                         const std::optional<at::Tensor>& bias = std::nullopt,
                         const std::optional<at::Tensor>& residual = std::nullopt);

/// y [T,O], its columns of a part (+)= x [T,I] times that part; rows of both any distance apart. As many threads as MKL
/// takes: within one of many, that one.
void part_product(const at::Tensor& x, const PackedWeight& weight, const PackedPart& part, at::Tensor& y,
                  bool accumulates);

}  // namespace fpdist::kernels
