#pragma once
// kernels/cuda: elements as they lie in memory, a whole 16-byte vector or one alone, and as float32 to compute with.

#include <cstdint>

namespace fpdist::kernels {

/// A bfloat16 and a float16 where they lie.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

/// The bits of N elements of T, moved by one instruction.
template <int kBytes>
struct BitsOf;
template <>
struct BitsOf<16> {
  using type = uint4;
};
template <>
struct BitsOf<8> {
  using type = uint2;
};
template <>
struct BitsOf<4> {
  using type = uint32_t;
};
template <>
struct BitsOf<2> {
  using type = uint16_t;
};
template <typename T, int N>
using Bits = typename BitsOf<static_cast<int>(sizeof(T)) * N>::type;

/// `from` is not written while the kernel runs.
template <int N, typename T>
__device__ __forceinline__ Bits<T, N> load(const T* from) {
  return __ldg(reinterpret_cast<const Bits<T, N>*>(from));
}
template <int N, typename T>
__device__ __forceinline__ void store(T* to, Bits<T, N> bits) {
  __stwb(reinterpret_cast<Bits<T, N>*>(to), bits);  // an assignment may come out as four stores of a word
}

/// A float and two floats of shared memory.
__device__ __forceinline__ float load_float(uint32_t address) {
  float x;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
  return x;
}
__device__ __forceinline__ float2 load_pair(uint32_t address) {
  float2 pair;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(address) : "memory");
  return pair;
}

/// The element in the lower and in the upper half of a word.
__device__ __forceinline__ float low_of(uint32_t pair, BFloat16 = {}) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_of(uint32_t pair, BFloat16 = {}) { return __uint_as_float(pair & 0xffff0000u); }

__device__ __forceinline__ float low_of(uint32_t pair, Float16) {
  float x;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, low;\n}\n" : "=f"(x) : "r"(pair));
  return x;
}
__device__ __forceinline__ float high_of(uint32_t pair, Float16) {
  float x;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, high;\n}\n" : "=f"(x) : "r"(pair));
  return x;
}

__device__ __forceinline__ void expand(uint32_t bits, float (&x)[1]) { x[0] = __uint_as_float(bits); }
__device__ __forceinline__ void expand(uint16_t bits, float (&x)[1]) {
  x[0] = __uint_as_float(static_cast<uint32_t>(bits) << 16);
}
__device__ __forceinline__ void expand(uint4 bits, float (&x)[4]) {
  x[0] = __uint_as_float(bits.x), x[1] = __uint_as_float(bits.y);
  x[2] = __uint_as_float(bits.z), x[3] = __uint_as_float(bits.w);
}
__device__ __forceinline__ void expand(uint4 bits, float (&x)[8]) {
  const uint32_t pair[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = low_of(pair[i]), x[2 * i + 1] = high_of(pair[i]);
  }
}

/// Two floats rounded to 16 bits, the first in the lower half.
__device__ __forceinline__ uint32_t round_pair(float low, float high, BFloat16 = {}) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ __forceinline__ uint32_t round_pair(float low, float high, Float16) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/// Sums of a product as the left side of the next one (wgmma.cuh, mma.cuh): pairs of them rounded to T, in their order.
template <typename T = BFloat16, int N>
__device__ __forceinline__ void round_into(const float (&sum)[N], uint32_t (&a)[N / 2]) {
#pragma unroll
  for (int i = 0; i < N / 2; ++i) a[i] = round_pair(sum[2 * i], sum[2 * i + 1], T{});
}

/// The other way, rounded to T.
__device__ __forceinline__ uint32_t pack(const float (&x)[1], float) { return __float_as_uint(x[0]); }
__device__ __forceinline__ uint16_t pack(const float (&x)[1], BFloat16) {
  return static_cast<uint16_t>(round_pair(x[0], 0.0f));
}
__device__ __forceinline__ uint2 pack(const float (&x)[4], BFloat16) {
  return {round_pair(x[0], x[1]), round_pair(x[2], x[3])};
}
__device__ __forceinline__ uint4 pack(const float (&x)[4], float) {
  return {__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3])};
}
__device__ __forceinline__ uint4 pack(const float (&x)[8], BFloat16) {
  return {round_pair(x[0], x[1]), round_pair(x[2], x[3]), round_pair(x[4], x[5]), round_pair(x[6], x[7])};
}

/// What is left of x once it was kept as a T.
template <typename T, int N>
__device__ __forceinline__ void round_to(float (&x)[N]) {
  expand(pack(x, T{}), x);
}

}  // namespace fpdist::kernels
