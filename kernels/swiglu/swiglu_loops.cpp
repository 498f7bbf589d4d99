#include "kernels/swiglu/swiglu_loops.hpp"

#include "kernels/common/vector_math.hpp"

// Inlined into each clone, or the clones would all call one plain x86-64 body.
#define FPDIST_INLINE __attribute__((always_inline)) inline

namespace fpdist::kernels {
namespace {

template <typename A>
FPDIST_INLINE A sigmoid(A x) {
  return A(1) / (A(1) + vector_exp(-x));
}

template <typename S>
FPDIST_INLINE void forward(const S* __restrict gate, const S* __restrict up, S* __restrict y, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    const auto g = loaded(gate[i]);
    y[i] = stored<S>(g * sigmoid(g) * loaded(up[i]));
  }
}

template <typename S>
FPDIST_INLINE void backward(const S* __restrict dy, const S* __restrict gate, const S* __restrict up,
                            S* __restrict d_gate, S* __restrict d_up, int64_t size) {
  using A = Summed<S>;
  for (int64_t i = 0; i < size; ++i) {
    const A g = loaded(gate[i]), grad = loaded(dy[i]), s = sigmoid(g), silu = g * s;
    d_up[i] = stored<S>(grad * silu);
    d_gate[i] = stored<S>(grad * loaded(up[i]) * (s + silu * (A(1) - s)));
  }
}

}  // namespace

FPDIST_CPU_CLONES void swiglu_loop(const float* gate, const float* up, float* y, int64_t size) {
  forward(gate, up, y, size);
}
FPDIST_CPU_CLONES void swiglu_loop(const double* gate, const double* up, double* y, int64_t size) {
  forward(gate, up, y, size);
}
FPDIST_CPU_CLONES void swiglu_loop(const uint16_t* gate, const uint16_t* up, uint16_t* y, int64_t size) {
  forward(gate, up, y, size);
}
FPDIST_CPU_CLONES void swiglu_backward_loop(const float* dy, const float* gate, const float* up, float* d_gate,
                                            float* d_up, int64_t size) {
  backward(dy, gate, up, d_gate, d_up, size);
}
FPDIST_CPU_CLONES void swiglu_backward_loop(const double* dy, const double* gate, const double* up, double* d_gate,
                                            double* d_up, int64_t size) {
  backward(dy, gate, up, d_gate, d_up, size);
}
FPDIST_CPU_CLONES void swiglu_backward_loop(const uint16_t* dy, const uint16_t* gate, const uint16_t* up,
                                            uint16_t* d_gate, uint16_t* d_up, int64_t size) {
  backward(dy, gate, up, d_gate, d_up, size);
}

}  // namespace fpdist::kernels
