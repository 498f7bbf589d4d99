// dequantize_nf4: a lane reads 4 bytes of codes and one scale and writes 8 elements, 16 bytes at once. The table lies
// in shared memory, where 16 words are 16 banks: lanes that look up different entries do not wait for each other. The
// last, incomplete 8 are one lane's, element by element.
#include "kernels/cuda/dispatch.cuh"
#include "kernels/nf4/cuda/nf4_kernel.hpp"

namespace fpdist::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;  // elements of a lane

/// kNf4Table's, without a branch or a load, as lanes ask for different ones.
__device__ __forceinline__ float table_entry(uint32_t code) {
  float entry = -1.0F;
  entry = code == 1 ? -0.6961928009986877F : entry;
  entry = code == 2 ? -0.5250730514526367F : entry;
  entry = code == 3 ? -0.39491748809814453F : entry;
  entry = code == 4 ? -0.28444138169288635F : entry;
  entry = code == 5 ? -0.18477343022823334F : entry;
  entry = code == 6 ? -0.09105003625154495F : entry;
  entry = code == 7 ? 0.0F : entry;
  entry = code == 8 ? 0.07958029955625534F : entry;
  entry = code == 9 ? 0.16093020141124725F : entry;
  entry = code == 10 ? 0.24611230194568634F : entry;
  entry = code == 11 ? 0.33791524171829224F : entry;
  entry = code == 12 ? 0.44070982933044434F : entry;
  entry = code == 13 ? 0.5626170039176941F : entry;
  entry = code == 14 ? 0.7229568362236023F : entry;
  entry = code == 15 ? 1.0F : entry;
  return entry;
}

__device__ __forceinline__ float rounded(float x, float) { return x; }
__device__ __forceinline__ float rounded(float x, BFloat16) { return low_of(round_pair(x, 0.0F, BFloat16{})); }
__device__ __forceinline__ float rounded(float x, Float16) { return low_of(round_pair(x, 0.0F, Float16{}), Float16{}); }

/// Rounded twice, as the twin does: no fused product and sum.
__device__ __forceinline__ float scale_of(const Nf4KernelArguments& a, uint32_t block) {
  if (a.nested_absmax == nullptr) return __ldg(static_cast<const float*>(a.absmax) + block);
  const uint8_t code = __ldg(static_cast<const uint8_t*>(a.absmax) + block);
  return __fadd_rn(__fmul_rn(__ldg(a.nested_map + code), __ldg(a.nested_absmax + block / a.nested_block)),
                   a.nested_offset);
}

__device__ __forceinline__ void store_all(float* to, const float (&x)[kEach]) {
  const float low[4] = {x[0], x[1], x[2], x[3]}, high[4] = {x[4], x[5], x[6], x[7]};
  store<4>(to, pack(low, float{}));
  store<4>(to + 4, pack(high, float{}));
}
__device__ __forceinline__ void store_all(BFloat16* to, const float (&x)[kEach]) { store<8>(to, pack(x, BFloat16{})); }

template <typename Stored, typename Out>
__global__ void __launch_bounds__(kThreads) nf4_kernel(const __grid_constant__ Nf4KernelArguments a) {
  __shared__ float table[16];
  if (threadIdx.x < 16) table[threadIdx.x] = table_entry(threadIdx.x);
  __syncthreads();
  const uint32_t lane = blockIdx.x * kThreads + threadIdx.x;
  const int64_t begin = static_cast<int64_t>(lane) * kEach;
  if (begin >= a.elements) return;
  const float scale = scale_of(a, lane / (a.block / kEach));
  const auto value = [&](uint32_t code) { return rounded(__fmul_rn(table[code], scale), Stored{}); };
  Out* to = static_cast<Out*>(a.out) + begin;
  if (begin + kEach <= a.elements) {
    const uint32_t codes = load<1>(reinterpret_cast<const uint32_t*>(a.code + begin / 2));
    float x[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) x[i] = value((codes >> (i / 2 * 8 + (i % 2 == 0 ? 4 : 0))) & 15);
    return store_all(to, x);
  }
#pragma unroll 1
  for (int64_t i = 0; i < a.elements - begin; ++i) {
    const uint32_t both = __ldg(a.code + (begin + i) / 2);
    const float one[1] = {value(i % 2 == 0 ? both >> 4 : both & 15)};
    store<1>(to + i, pack(one, Out{}));
  }
}

template <typename Stored>
void launch(const Nf4KernelArguments& a, Element out, cudaStream_t stream) {
  constexpr int64_t kOfBlock = int64_t{kThreads} * kEach;
  const auto blocks = static_cast<unsigned>((a.elements + kOfBlock - 1) / kOfBlock);
  if (out == Element::kFloat32)
    nf4_kernel<Stored, float><<<blocks, kThreads, 0, stream>>>(a);
  else
    nf4_kernel<Stored, BFloat16><<<blocks, kThreads, 0, stream>>>(a);
}

}  // namespace

cudaError_t launch_dequantize_nf4(const Nf4KernelArguments& arguments, Element stored, Element out,
                                  cudaStream_t stream) {
  if (arguments.elements == 0) return cudaSuccess;
  if (stored == Element::kFloat32)
    launch<float>(arguments, out, stream);
  else if (stored == Element::kBFloat16)
    launch<BFloat16>(arguments, out, stream);
  else
    launch<Float16>(arguments, out, stream);
  return cudaGetLastError();
}

}  // namespace fpdist::kernels
