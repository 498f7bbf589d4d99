#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>
#include <string_view>
#include <utility>

#include "fpdist/core/rng.hpp"
#include "fpdist/ops/quantized_weight.hpp"
#include "src/model/weights.hpp"

namespace fpdist::model {
namespace {

/// Standard normals for elements 2*pair and 2*pair + 1 (Box-Muller).
std::pair<double, double> normal_pair(uint64_t seed, uint64_t stream, uint64_t pair) {
  const auto block = philox(seed, pair, stream);
  const auto uniform = [&](int word) {
    return static_cast<double>(((uint64_t{block[word + 1]} << 32) | block[word]) >> 11) * 0x1.0p-53;
  };
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform(0))), angle = 2.0 * std::numbers::pi * uniform(2);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// Elements [begin, end) of the whole weight; a run may begin or end inside a pair.
void draw_run(int64_t begin, int64_t end, double std, uint64_t seed, uint64_t stream, double* out) {
  for (int64_t pair = begin / 2; 2 * pair < end; ++pair) {
    const auto [even, odd] = normal_pair(seed, stream, static_cast<uint64_t>(pair));
    if (2 * pair >= begin) *out++ = std * even;
    if (2 * pair + 1 < end) *out++ = std * odd;
  }
}

/// Uniform numbers of [0, 1) for elements [begin, end) of the whole weight, each from two words of a block of its pair.
void draw_uniform(int64_t begin, int64_t end, uint64_t seed, uint64_t stream, double* out) {
  for (int64_t element = begin; element < end; ++element) {
    const auto block = philox(seed, static_cast<uint64_t>(element / 2), stream);
    const auto word = static_cast<size_t>(element % 2 * 2);
    *out++ = static_cast<double>(((uint64_t{block[word + 1]} << 32) | block[word]) >> 11) * 0x1.0p-53;
  }
}

/// Writes a matrix, or the slice of it that is here: draw(begin, end, out) gives elements of the whole one.
template <typename Draw>
void fill_matrix(ops::Parameter& parameter, const Draw& draw) {
  const ops::Sharding& cut = parameter.sharding;
  const int64_t rows = parameter.value.size(0), columns = parameter.value.size(1);
  const int64_t width = cut.dim == 1 ? cut.full_shape[1] : columns;  // of the whole weight
  const int64_t begin = cut.dim == 0 ? cut.begin * width : cut.dim == 1 ? cut.begin : 0;
  at::Tensor drawn = at::empty(parameter.value.sizes(), at::TensorOptions(at::kDouble));
  auto* out = drawn.mutable_data_ptr<double>();
  for (int64_t row = 0; row < rows && columns > 0; ++row)
    draw(begin + row * width, begin + row * width + columns, out + row * columns);
  parameter.value.copy_(drawn);
}

}  // namespace

uint64_t stream_of(std::string_view name) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : name) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

void initialize(ops::Parameter& parameter, double std, uint64_t seed) {
  const at::NoGradGuard no_grad;
  if (parameter.value.dim() < 2) {
    parameter.value.fill_(parameter.name.ends_with(".bias") ? 0.0 : 1.0);
    return;
  }
  const uint64_t stream = stream_of(parameter.name);
  fill_matrix(parameter,
              [&](int64_t begin, int64_t end, double* out) { draw_run(begin, end, std, seed, stream, out); });
}

void initialize_quantized(ops::Parameter& parameter, double std, uint64_t seed, bool nested) {
  const ops::QuantizedWeight& weight = *parameter.quantized;
  const auto& own = weight.matrix.sizes;
  ops::Parameter whole;
  whole.name = parameter.name;
  whole.value = at::empty(parameter.sharding.dim < 0 ? own : parameter.sharding.full_shape, weight.dtype);
  initialize(whole, std, seed);
  ops::store(parameter, ops::quantize(whole.value, nested));
}

namespace {

/// Elements uniform within 1 / sqrt of what each output sums over.
void draw_linear(ops::Parameter& parameter, uint64_t seed) {
  const ops::Sharding& cut = parameter.sharding;
  const int64_t inputs = cut.dim == 1 ? cut.full_shape[1] : parameter.value.size(1);
  const double bound = 1.0 / std::sqrt(static_cast<double>(inputs));
  const uint64_t stream = stream_of(parameter.name);
  fill_matrix(parameter, [&](int64_t begin, int64_t end, double* out) {
    draw_uniform(begin, end, seed, stream, out);
    for (double* drawn = out; drawn < out + (end - begin); ++drawn) *drawn = bound * (2.0 * *drawn - 1.0);
  });
}

/// Of a prefix: what it is made by as torch's linears, its values normal or zero.
void initialize_prefix(ops::Parameter& parameter, const arch::Prefix& prefix, uint64_t seed) {
  const bool is_made = parameter.name != arch::kPrefixEmbedding && prefix.hidden > 0;
  const bool is_first = parameter.name.starts_with(arch::kPrefixHidden);
  if (parameter.value.dim() < 2 || (prefix.is_zero && (prefix.hidden == 0 || (is_made && !is_first))))
    return void(parameter.value.zero_());
  is_made ? draw_linear(parameter, seed) : initialize(parameter, /*std=*/1.0, seed);
}

}  // namespace

void initialize_adapter(ops::Parameter& parameter, const arch::Adapter& adapter, uint64_t seed) {
  const at::NoGradGuard no_grad;
  if (arch::is_of_ntk(parameter.name)) return initialize(parameter, arch::kNtkDeviation, seed);
  if (arch::is_of_prefix(parameter.name)) return initialize_prefix(parameter, adapter.prefix, seed);
  const arch::Adapter::Init init = adapter.init;
  const ops::Sharding& cut = parameter.sharding;
  if (parameter.is_magnitude) return void(parameter.value.fill_(1.0));  // until the weights are there
  const bool is_a = parameter.name.ends_with(arch::kLowRankA);
  if (!is_a && init != arch::Adapter::Init::kBothUniform) return void(parameter.value.zero_());
  const uint64_t stream = stream_of(parameter.name);
  const auto size = [&](int dim) {
    return static_cast<double>(cut.dim < 0 ? parameter.value.size(dim) : cut.full_shape[static_cast<size_t>(dim)]);
  };
  if (init == arch::Adapter::Init::kGaussian)
    return fill_matrix(parameter, [&](int64_t begin, int64_t end, double* out) {
      draw_run(begin, end, 1.0 / size(0), seed, stream, out);
    });
  draw_linear(parameter, seed);
}

}  // namespace fpdist::model
