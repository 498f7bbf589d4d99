// CPU twin of dequantize_nf4: block by block, one scale and a table of its 16 products at a time.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/nf4/nf4.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kBlocksPerTask = 256;

/// Scales of blocks, nested or not.
class Scales {
 public:
  explicit Scales(const Nf4Arguments& in)
      : absmax_(in.absmax.const_data_ptr()), offset_(static_cast<float>(in.nested_offset)), group_(in.nested_block) {
    if (!in.is_nested()) return;
    of_group_ = in.nested_absmax->const_data_ptr<float>(), map_ = in.nested_map->const_data_ptr<float>();
  }
  float of(int64_t block) const {
    if (of_group_ == nullptr) return static_cast<const float*>(absmax_)[block];
    const float product = map_[static_cast<const uint8_t*>(absmax_)[block]] * of_group_[block / group_];
    return product + offset_;
  }

 private:
  const void* absmax_;
  float offset_;
  int64_t group_;
  const float *of_group_ = nullptr, *map_ = nullptr;
};

float rounded(float x, at::ScalarType stored) {
  if (stored == at::kBFloat16) return static_cast<float>(at::BFloat16(x));
  if (stored == at::kHalf) return static_cast<float>(at::Half(x));
  return x;
}

template <typename T>
void dequantize(const Nf4Arguments& in, T* out) {
  const int64_t n = in.elements(), block = in.block;
  const auto* const code = in.code.const_data_ptr<uint8_t>();
  const Scales scales(in);
  at::parallel_for(0, in.absmax.size(0), kBlocksPerTask, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const float scale = scales.of(b);
      T value[16];
      for (size_t q = 0; q < 16; ++q) value[q] = static_cast<T>(rounded(kNf4Table[q] * scale, in.stored));
      const int64_t begin = b * block, end = std::min(n, begin + block);
      for (int64_t i = begin; i < end; i += 2) {
        const uint8_t both = code[i / 2];
        out[i] = value[both >> 4];
        if (i + 1 < end) out[i + 1] = value[both & 15];
      }
    }
  });
}

at::Tensor dequantize_nf4_cpu(const at::Tensor& code, const at::Tensor& absmax,
                              const std::optional<at::Tensor>& nested_absmax,
                              const std::optional<at::Tensor>& nested_map, double nested_offset, at::IntArrayRef sizes,
                              int64_t block, int64_t nested_block, at::ScalarType stored, at::ScalarType dtype) {
  const Nf4Arguments in{code,  absmax, nested_absmax, nested_map, nested_offset,
                        sizes, block,  nested_block,  stored,     dtype};
  check_nf4(in);
  at::Tensor out = at::empty(sizes, code.options().dtype(dtype));
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, dtype, "dequantize_nf4",
                                 [&] { dequantize(in, out.mutable_data_ptr<scalar_t>()); });
  return out;
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) { m.impl("dequantize_nf4", fpdist::kernels::dequantize_nf4_cpu); }
