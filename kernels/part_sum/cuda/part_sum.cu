// part_sum: a lane takes 16 bytes of every part, one part after the other, and writes as many. What lies behind the
// last whole vector one lane takes element by element.
#include <algorithm>

#include "kernels/cuda/dispatch.cuh"
#include "kernels/part_sum/cuda/part_sum_kernel.hpp"

namespace fpdist::kernels {
namespace {

constexpr int kThreads = 256;

/// Not by the way for what nobody writes: the sum may go where a part lies.
template <typename T, int N>
__device__ __forceinline__ Bits<T, N> load_part(const void* part, int64_t at) {
  return *reinterpret_cast<const Bits<T, N>*>(static_cast<const T*>(part) + at);
}

template <typename T, int N>
__device__ __forceinline__ void sum_at(const PartSumArguments& a, int64_t at) {
  float sum[N], own[N];
  expand(load_part<T, N>(a.part[0], at), sum);
#pragma unroll
  for (int part = 1; part < kMostParts; ++part) {
    if (part >= a.parts) break;
    expand(load_part<T, N>(a.part[part], at), own);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] += own[i];
  }
  store<N>(static_cast<T*>(a.out) + at, pack(sum, T{}));
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) part_sum(const __grid_constant__ PartSumArguments a) {
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  if (begin + N <= a.count)
    sum_at<T, N>(a, begin);
  else
#pragma unroll 1
    for (int64_t at = begin; at < a.count; ++at) sum_at<T, 1>(a, at);
}

}  // namespace

cudaError_t launch_part_sum(const PartSumArguments& a, Element element, cudaStream_t stream) {
  if (a.parts < 1 || a.parts > kMostParts) return cudaErrorInvalidValue;
  if (a.count == 0) return cudaSuccess;
  const bool is_vectorised = fits_vectors(a.out, 0, element) && std::all_of(a.part, a.part + a.parts, [&](auto* part) {
                               return fits_vectors(part, 0, element);
                             });
  with_access(element, is_vectorised, [&](auto access) {
    using A = decltype(access);
    constexpr int64_t kEach = int64_t{kThreads} * A::kElements;
    part_sum<typename A::Type, A::kElements>
        <<<static_cast<unsigned>((a.count + kEach - 1) / kEach), kThreads, 0, stream>>>(a);
  });
  return cudaGetLastError();
}

}  // namespace fpdist::kernels
