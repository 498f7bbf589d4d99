#include "kernels/nf4/quantize.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "kernels/nf4/nf4.hpp"
#include "kernels/nf4/nf4_composed.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kBlock = 64, kNestedBlock = 256, kBlocksPerTask = 256;
constexpr uint8_t kZero = 7;  // code of 0

/// Between neighbours of an ascending table.
template <typename Table>
std::vector<float> midpoints(const Table& table) {
  std::vector<float> all;
  for (size_t q = 0; q + 1 < table.size(); ++q) all.push_back((table[q] + table[q + 1]) / 2);
  return all;
}

/// How many of them lie under x; 0 for what is no number.
uint8_t code_of(float x, const std::vector<float>& between) {
  return static_cast<uint8_t>(std::lower_bound(between.begin(), between.end(), x) - between.begin());
}

struct Quantized {
  at::Tensor code, absmax;
};

Quantized quantize_plain(const at::Tensor& flat) {
  const int64_t n = flat.numel(), blocks = (n + kBlock - 1) / kBlock;
  Quantized out{at::empty({(n + 1) / 2}, at::kByte), at::empty({blocks}, at::kFloat)};
  const auto* const x = flat.const_data_ptr<float>();
  auto* const code = out.code.mutable_data_ptr<uint8_t>();
  auto* const absmax = out.absmax.mutable_data_ptr<float>();
  const std::vector<float> between = midpoints(kNf4Table);
  at::parallel_for(0, blocks, kBlocksPerTask, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t begin = b * kBlock, end = std::min(n, begin + kBlock);
      float largest = 0;
      for (int64_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(x[i]));
      absmax[b] = largest;
      const float inverse = 1.0F / largest;
      const auto code_at = [&](int64_t i) { return i < end && largest > 0 ? code_of(x[i] * inverse, between) : kZero; };
      for (int64_t i = begin; i < end; i += 2) code[i / 2] = static_cast<uint8_t>(code_at(i) << 4 | code_at(i + 1));
    }
  });
  return out;
}

/// Scales less their mean, each as the nearest of the map times its block's largest.
void nest(Nf4& matrix) {
  const at::Tensor mean = matrix.absmax.mean(), centred = matrix.absmax - mean;
  const int64_t n = centred.numel(), blocks = (n + kNestedBlock - 1) / kNestedBlock;
  matrix.nested_offset = mean.item<float>();
  matrix.nested_map = dynamic_map();
  matrix.nested_absmax = at::empty({blocks}, at::kFloat);
  matrix.absmax = at::empty({n}, at::kByte);
  const auto* const map = matrix.nested_map.const_data_ptr<float>();
  const std::vector<float> between = midpoints(std::vector<float>(map, map + 256));
  const auto* const x = centred.const_data_ptr<float>();
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * kNestedBlock, end = std::min(n, begin + kNestedBlock);
    float largest = 0;
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(x[i]));
    matrix.nested_absmax.mutable_data_ptr<float>()[b] = largest;
    const float inverse = largest > 0 ? 1.0F / largest : 0.0F;
    for (int64_t i = begin; i < end; ++i)
      matrix.absmax.mutable_data_ptr<uint8_t>()[i] = code_of(x[i] * inverse, between);
  }
}

}  // namespace

at::Tensor dynamic_map() {
  std::vector<float> map{0.0F, 1.0F};
  for (int decade = 0; decade < 7; ++decade) {
    const int count = 1 << decade;
    // The boundaries as float32, as bitsandbytes' linspace has them.
    const at::Tensor bounds = at::linspace(0.1, 1.0, count + 1, at::kFloat);
    const at::Tensor middles = bounds.narrow(0, 0, count).add(bounds.narrow(0, 1, count)).div_(2.0);
    const at::Tensor scaled = middles.mul(std::pow(10.0, decade - 6));
    for (int i = 0; i < count; ++i) {
      const auto value = scaled[i].item<float>();
      map.push_back(value), map.push_back(-value);
    }
  }
  std::sort(map.begin(), map.end());
  return at::tensor(map, at::kFloat);
}

Nf4 quantize_nf4(const at::Tensor& matrix, bool nested) {
  check(matrix.defined() && matrix.dim() == 2 && at::isFloatingType(matrix.scalar_type()) && matrix.is_cpu(),
        "quantize_nf4: needs a matrix of floats on the CPU");
  const bool is_double = matrix.scalar_type() == at::kDouble;
  Quantized plain = quantize_plain(matrix.detach().to(at::kFloat).contiguous().flatten());
  Nf4 made{.code = std::move(plain.code),
           .absmax = std::move(plain.absmax),
           .nested_absmax = {},
           .nested_map = {},
           .block = kBlock,
           .nested_block = kNestedBlock,
           .sizes = matrix.sizes().vec(),
           .stored = is_double ? at::kFloat : matrix.scalar_type()};
  if (nested && made.elements() > 0) nest(made);
  return made;
}

Nf4 without_nesting(Nf4 matrix) {
  if (!matrix.is_nested()) return matrix;
  const std::optional<at::Tensor> of_group(matrix.nested_absmax), map(matrix.nested_map);
  matrix.absmax = nf4_scales({matrix.code, matrix.absmax, of_group, map, matrix.nested_offset, matrix.sizes,
                              matrix.block, matrix.nested_block, matrix.stored, at::kFloat});
  matrix.nested_absmax = matrix.nested_map = at::Tensor();
  return matrix;
}

}  // namespace fpdist::kernels
