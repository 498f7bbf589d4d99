#include "src/comm/reduce.hpp"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "fpdist/core/error.hpp"

namespace fpdist::comm {
namespace {

template <typename T>
T smaller(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a)) return a;
    if (std::isnan(b)) return b;
  }
  return b < a ? b : a;
}
template <typename T>
T larger(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a)) return a;
    if (std::isnan(b)) return b;
  }
  return a < b ? b : a;
}

/// Blocks keep the sum in cache and make it safe for `out` to be one of the parts: a block is read whole before it is
/// written.
template <typename T, typename Sum, typename Combine>
void reduce_blocks(const std::vector<const char*>& parts, char* out_bytes, int64_t count, Combine combine) {
  constexpr int64_t kBlock = 1024;  // 8 KiB of sums at most, beside two blocks of parts: well inside a 32 KiB L1
  std::array<Sum, kBlock> sum;
  T* out = reinterpret_cast<T*>(out_bytes);
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const T* first = reinterpret_cast<const T*>(parts[0]) + begin;
    for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<Sum>(first[i]);
    for (size_t p = 1; p < parts.size(); ++p) {
      const T* part = reinterpret_cast<const T*>(parts[p]) + begin;
      for (int64_t i = 0; i < n; ++i) sum[i] = combine(sum[i], static_cast<Sum>(part[i]));
    }
    for (int64_t i = 0; i < n; ++i) out[begin + i] = static_cast<T>(sum[i]);
  }
}

template <typename T, typename Sum = T>
void reduce_as(const std::vector<const char*>& parts, char* out, int64_t count, ReduceOp op) {
  // Integers wrap around as the hardware does; signed overflow would be undefined.
  const auto add = [](Sum a, Sum b) {
    if constexpr (std::is_integral_v<Sum>) {
      using Unsigned = std::make_unsigned_t<Sum>;
      return static_cast<Sum>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
    } else {
      return a + b;
    }
  };
  switch (op) {
    case ReduceOp::kSum:
      return reduce_blocks<T, Sum>(parts, out, count, add);
    case ReduceOp::kMin:
      return reduce_blocks<T, Sum>(parts, out, count, smaller<Sum>);
    case ReduceOp::kMax:
      return reduce_blocks<T, Sum>(parts, out, count, larger<Sum>);
  }
}

}  // namespace

void reduce_parts(const std::vector<const char*>& parts, char* out, int64_t count, c10::ScalarType dtype, ReduceOp op) {
  switch (dtype) {
    case c10::ScalarType::Float:
      return reduce_as<float>(parts, out, count, op);
    case c10::ScalarType::Double:
      return reduce_as<double>(parts, out, count, op);
    case c10::ScalarType::BFloat16:
      return reduce_as<c10::BFloat16, float>(parts, out, count, op);
    case c10::ScalarType::Int:
      return reduce_as<int32_t>(parts, out, count, op);
    case c10::ScalarType::Long:
      return reduce_as<int64_t>(parts, out, count, op);
    case c10::ScalarType::Byte:
      return reduce_as<uint8_t>(parts, out, count, op);
    default:
      throw ShapeError(text("a reduction of ", c10::toString(dtype), " is not supported"));
  }
}

}  // namespace fpdist::comm
