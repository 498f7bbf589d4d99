// swiglu: a lane takes 16 bytes of each input and writes as many of each output: enough loads are under way at full
// occupancy, and nothing is read twice. Blocks go along a row, the grid's y over rows; dense inputs are one long row,
// whose last, incomplete vector one lane takes element by element.
#include <algorithm>

#include "kernels/cuda/dispatch.cuh"
#include "kernels/swiglu/cuda/swiglu_kernel.hpp"

namespace fpdist::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostRows = 65535;  // of a grid's y

/// 1 / (1 + e^-x): 0, not NaN, where e^-x is infinite.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

template <typename T, int N>
__device__ __forceinline__ void forward_at(const SwigluArguments& a, int64_t row, int64_t column) {
  float gate[N], up[N];
  expand(load<N>(static_cast<const T*>(a.gate) + row * a.gate_stride + column), gate);
  expand(load<N>(static_cast<const T*>(a.up) + row * a.up_stride + column), up);
#pragma unroll
  for (int i = 0; i < N; ++i) gate[i] *= sigmoid(gate[i]) * up[i];
  store<N>(static_cast<T*>(a.out) + row * a.width + column, pack(gate, T{}));
}

template <typename T, int N>
__device__ __forceinline__ void backward_at(const SwigluBackwardArguments& a, int64_t row, int64_t column) {
  float grad[N], gate[N], up[N];
  expand(load<N>(static_cast<const T*>(a.grad_out) + row * a.grad_out_stride + column), grad);
  expand(load<N>(static_cast<const T*>(a.gate) + row * a.gate_stride + column), gate);
  expand(load<N>(static_cast<const T*>(a.up) + row * a.up_stride + column), up);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float s = sigmoid(gate[i]), silu = gate[i] * s;
    gate[i] = (s + silu * (1.0f - s)) * grad[i] * up[i];
    up[i] = silu * grad[i];
  }
  store<N>(static_cast<T*>(a.d_gate) + row * a.width + column, pack(gate, T{}));
  store<N>(static_cast<T*>(a.d_up) + row * a.width + column, pack(up, T{}));
}

template <typename T, int N>
__device__ __forceinline__ void work_at(const SwigluArguments& a, int64_t row, int64_t column) {
  forward_at<T, N>(a, row, column);
}
template <typename T, int N>
__device__ __forceinline__ void work_at(const SwigluBackwardArguments& a, int64_t row, int64_t column) {
  backward_at<T, N>(a, row, column);
}

template <typename T, int N, typename Arguments>
__global__ void __launch_bounds__(kThreads) swiglu_kernel(const __grid_constant__ Arguments a) {
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  for (int64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    if (begin + N <= a.width)
      work_at<T, N>(a, row, begin);
    else
#pragma unroll 1
      for (int64_t column = begin; column < a.width; ++column) work_at<T, 1>(a, row, column);
  }
}

template <typename Arguments>
cudaError_t launch(const Arguments& a, Element element, bool is_vectorised, cudaStream_t stream) {
  if (a.rows == 0 || a.width == 0) return cudaSuccess;
  with_access(element, is_vectorised, [&](auto access) {
    using A = decltype(access);
    constexpr int64_t kEach = int64_t{kThreads} * A::kElements;
    const dim3 grid(static_cast<unsigned>((a.width + kEach - 1) / kEach),
                    static_cast<unsigned>(std::min(a.rows, kMostRows)));
    swiglu_kernel<typename A::Type, A::kElements><<<grid, kThreads, 0, stream>>>(a);
  });
  return cudaGetLastError();
}

/// Rows that all follow each other are one.
template <typename Arguments>
void join_rows(Arguments& a) {
  a.width *= a.rows, a.rows = 1;
}

}  // namespace

cudaError_t launch_swiglu(const SwigluArguments& arguments, Element element, cudaStream_t stream) {
  SwigluArguments a = arguments;
  if (a.gate_stride == a.width && a.up_stride == a.width) join_rows(a);
  // One row needs no stride.
  const auto step = [&](int64_t stride) { return a.rows == 1 ? 0 : stride; };
  const bool is_vectorised = fits_vectors(a.gate, step(a.gate_stride), element) &&
                             fits_vectors(a.up, step(a.up_stride), element) &&
                             fits_vectors(a.out, step(a.width), element);
  return launch(a, element, is_vectorised, stream);
}

cudaError_t launch_swiglu_backward(const SwigluBackwardArguments& arguments, Element element, cudaStream_t stream) {
  SwigluBackwardArguments a = arguments;
  if (a.grad_out_stride == a.width && a.gate_stride == a.width && a.up_stride == a.width) join_rows(a);
  const auto step = [&](int64_t stride) { return a.rows == 1 ? 0 : stride; };
  const bool is_vectorised =
      fits_vectors(a.grad_out, step(a.grad_out_stride), element) &&
      fits_vectors(a.gate, step(a.gate_stride), element) && fits_vectors(a.up, step(a.up_stride), element) &&
      fits_vectors(a.d_gate, step(a.width), element) && fits_vectors(a.d_up, step(a.width), element);
  return launch(a, element, is_vectorised, stream);
}

}  // namespace fpdist::kernels
