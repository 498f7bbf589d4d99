#pragma once
// kernels: a matrix in 4 bits an element, as bitsandbytes stores it.
// Sources: Dettmers et al., "QLoRA: efficient finetuning of quantized LLMs" (2023), NF4 and double quantization;
// Dettmers et al., "8-bit optimizers via block-wise quantization" (2022), the 8-bit map of nested scales.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace fpdist::kernels {

/// Elements of [sizes] in row-major order, rows or not, in blocks of `block`: element i is table[code of i] *
/// scale[i / block], formed in float32 and rounded to `stored`. Scales are absmax, or where they are nested
/// map[absmax[b]] * nested_absmax[b / nested_block] + nested_offset, two roundings.
struct Nf4 {
  at::Tensor code = {};           ///< [ceil(n/2)] uint8: of two neighbours the first is the upper half
  at::Tensor absmax = {};         ///< [ceil(n/block)] float32, uint8 where nested
  at::Tensor nested_absmax = {};  ///< [ceil(blocks/nested_block)] float32; undefined: absmax is not nested
  at::Tensor nested_map = {};     ///< [256] float32, with it
  double nested_offset = 0;
  int64_t block = 64, nested_block = 256;
  std::vector<int64_t> sizes = {};
  at::ScalarType stored = at::kFloat;  ///< float32, bfloat16 or float16: of the weight that was quantized

  bool is_nested() const { return nested_absmax.defined(); }
  int64_t elements() const;
  /// What it takes in memory.
  int64_t bytes() const;
};

}  // namespace fpdist::kernels
