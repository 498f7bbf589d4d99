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

template <typename A>
FPDIST_INLINE void forward(const A* __restrict gate, const A* __restrict up, A* __restrict y, int64_t size) {
  for (int64_t i = 0; i < size; ++i) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

template <typename A>
FPDIST_INLINE void backward(const A* __restrict dy, const A* __restrict gate, const A* __restrict up,
                            A* __restrict d_gate, A* __restrict d_up, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    const A s = sigmoid(gate[i]), silu = gate[i] * s;
    d_up[i] = dy[i] * silu;
    d_gate[i] = dy[i] * up[i] * (s + silu * (A(1) - s));
  }
}

}  // namespace

FPDIST_CPU_CLONES void swiglu_loop(const float* gate, const float* up, float* y, int64_t size) {
  forward(gate, up, y, size);
}
FPDIST_CPU_CLONES void swiglu_loop(const double* gate, const double* up, double* y, int64_t size) {
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

}  // namespace fpdist::kernels
