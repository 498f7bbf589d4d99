// rotary: a lane has the same 16 bytes in both halves of up to four heads of one row; it reads the angles of these
// elements once. Neighbouring lanes go along a head's half, then over heads, then over rows, so that a warp moves whole
// 32-byte sectors wherever a half has 16 bytes.
#include "kernels/cuda/dispatch.cuh"
#include "kernels/rotary/cuda/rotary_kernel.hpp"

namespace fpdist::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadsOfLane = 4;

/// `count` floats, in vectors where there are enough.
template <int N>
__device__ __forceinline__ void load_angles(const float* from, float (&to)[N]) {
  constexpr int kEach = N < 4 ? N : 4;
#pragma unroll
  for (int i = 0; i < N; i += kEach) {
    float part[kEach];
    expand(load<kEach>(from + i), part);
#pragma unroll
    for (int j = 0; j < kEach; ++j) to[i + j] = part[j];
  }
}

/// The two halves' elements of one head, turned, to where they belong.
template <typename T, int N>
__device__ __forceinline__ void turn(Bits<T, N> low_bits, Bits<T, N> high_bits, T* out, int half, const float (&cos)[N],
                                     const float (&sin)[N]) {
  float a[N], b[N];
  expand(low_bits, a), expand(high_bits, b);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float low = a[i] * cos[i] - b[i] * sin[i];
    b[i] = b[i] * cos[i] + a[i] * sin[i];
    a[i] = low;
  }
  store<N>(out, pack(a, T{})), store<N>(out + half, pack(b, T{}));
}

/// `slots`: lanes that share the heads of a row at one place.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) rotary_kernel(const __grid_constant__ RotaryArguments a, int slots) {
  const int places = a.half / N, lanes_of_row = places * slots;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = index / lanes_of_row;
  if (row >= a.rows) return;
  const int in_row = static_cast<int>(index - row * lanes_of_row), slot = in_row / places;
  const int column = (in_row - slot * places) * N;
  float cos[N], sin[N];
  load_angles(a.cos + row * a.half + column, cos);
  load_angles(a.sin + row * a.half + column, sin);
  if (a.is_inverse)
#pragma unroll
    for (int i = 0; i < N; ++i) sin[i] = -sin[i];
  const T* const in = static_cast<const T*>(a.x) + row * a.row_stride + column;
  T* const out = static_cast<T*>(a.out) + row * a.heads * 2 * a.half + column;
  Bits<T, N> low[kHeadsOfLane], high[kHeadsOfLane];  // all under way before the first is needed
#pragma unroll
  for (int k = 0; k < kHeadsOfLane; ++k)
    if (const int head = slot + k * slots; head < a.heads) {
      low[k] = load<N>(in + head * a.head_stride);
      high[k] = load<N>(in + head * a.head_stride + a.half);
    }
#pragma unroll
  for (int k = 0; k < kHeadsOfLane; ++k)
    if (const int head = slot + k * slots; head < a.heads)
      turn<T, N>(low[k], high[k], out + static_cast<int64_t>(head) * 2 * a.half, a.half, cos, sin);
}

}  // namespace

cudaError_t launch_rotary(const RotaryArguments& arguments, Element element, cudaStream_t stream) {
  if (arguments.rows == 0 || arguments.heads == 0 || arguments.half == 0) return cudaSuccess;
  const bool is_vectorised = fits_vectors(arguments.x, arguments.row_stride, element) &&
                             fits_vectors(arguments.x, arguments.head_stride, element) &&
                             fits_vectors(arguments.out, arguments.half, element) &&
                             fits_vectors(arguments.cos, arguments.half, Element::kFloat32) &&
                             fits_vectors(arguments.sin, arguments.half, Element::kFloat32);
  with_access(element, is_vectorised, [&](auto access) {
    using A = decltype(access);
    const int slots = (arguments.heads + kHeadsOfLane - 1) / kHeadsOfLane;
    const int64_t lanes = arguments.rows * slots * (arguments.half / A::kElements);
    rotary_kernel<typename A::Type, A::kElements>
        <<<static_cast<unsigned>((lanes + kThreads - 1) / kThreads), kThreads, 0, stream>>>(arguments, slots);
  });
  return cudaGetLastError();
}

}  // namespace fpdist::kernels
