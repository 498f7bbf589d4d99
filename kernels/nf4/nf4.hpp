#pragma once
// dequantize_nf4: a matrix of fpdist/kernels/nf4.hpp as one of a model's dtype, to multiply with and to let go again.
// The same bits on every device, and as bitsandbytes 0.50.2 gives them.

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>

#include "fpdist/kernels/nf4.hpp"

namespace fpdist::kernels {

/// Quantiles of a normal distribution, scaled to -1 ... 1.
inline constexpr std::array<float, 16> kNf4Table = {-1.0F,
                                                    -0.6961928009986877F,
                                                    -0.5250730514526367F,
                                                    -0.39491748809814453F,
                                                    -0.28444138169288635F,
                                                    -0.18477343022823334F,
                                                    -0.09105003625154495F,
                                                    0.0F,
                                                    0.07958029955625534F,
                                                    0.16093020141124725F,
                                                    0.24611230194568634F,
                                                    0.33791524171829224F,
                                                    0.44070982933044434F,
                                                    0.5626170039176941F,
                                                    0.7229568362236023F,
                                                    1.0F};

/// [sizes] in `dtype` (float32, bfloat16 or float64), from the stored dtype's rounding.
at::Tensor dequantize_nf4(const Nf4& matrix, at::ScalarType dtype);

/// Flat, as the dispatcher has it; `sizes` stands for the matrix's.
struct Nf4Arguments {
  const at::Tensor &code, &absmax;
  const std::optional<at::Tensor>&nested_absmax, &nested_map;
  double nested_offset;
  at::IntArrayRef sizes;
  int64_t block, nested_block;
  at::ScalarType stored, dtype;

  int64_t elements() const;
  bool is_nested() const { return nested_absmax.has_value() && nested_absmax->defined(); }
};

/// Throws ShapeError unless the arguments fit together; the same on every device, reading no element.
void check_nf4(const Nf4Arguments& in);

}  // namespace fpdist::kernels
