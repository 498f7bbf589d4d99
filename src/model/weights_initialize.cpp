#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>
#include <string_view>
#include <utility>

#include "fpdist/core/rng.hpp"
#include "src/model/weights.hpp"

namespace fpdist::model {
namespace {

/// FNV-1a: names to streams of random numbers, the same on every machine.
uint64_t hash(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : name) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

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

}  // namespace

void initialize(ops::Parameter& parameter, double std, uint64_t seed) {
  const at::NoGradGuard no_grad;
  if (parameter.value.dim() < 2) {
    parameter.value.fill_(parameter.name.ends_with(".bias") ? 0.0 : 1.0);
    return;
  }
  const ops::Sharding& cut = parameter.sharding;
  const int64_t rows = parameter.value.size(0), columns = parameter.value.size(1);
  const int64_t width = cut.dim == 1 ? cut.full_shape[1] : columns;  // of the whole weight
  const int64_t begin = cut.dim == 0 ? cut.begin * width : cut.dim == 1 ? cut.begin : 0;
  at::Tensor drawn = at::empty(parameter.value.sizes(), at::TensorOptions(at::kDouble));
  auto* out = drawn.mutable_data_ptr<double>();
  const uint64_t stream = hash(parameter.name);
  for (int64_t row = 0; row < rows && columns > 0; ++row)
    draw_run(begin + row * width, begin + row * width + columns, std, seed, stream, out + row * columns);
  parameter.value.copy_(drawn);
}

}  // namespace fpdist::model
