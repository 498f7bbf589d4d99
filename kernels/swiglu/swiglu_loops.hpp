#pragma once
// swiglu on the CPU: the loops over `size` contiguous elements, compiled for several instruction sets. bfloat16 by its
// bits; in between it is float.

#include <cstdint>

namespace fpdist::kernels {

void swiglu_loop(const float* gate, const float* up, float* y, int64_t size);
void swiglu_loop(const double* gate, const double* up, double* y, int64_t size);
void swiglu_loop(const uint16_t* gate, const uint16_t* up, uint16_t* y, int64_t size);

void swiglu_backward_loop(const float* dy, const float* gate, const float* up, float* d_gate, float* d_up,
                          int64_t size);
void swiglu_backward_loop(const double* dy, const double* gate, const double* up, double* d_gate, double* d_up,
                          int64_t size);
void swiglu_backward_loop(const uint16_t* dy, const uint16_t* gate, const uint16_t* up, uint16_t* d_gate,
                          uint16_t* d_up, int64_t size);

}  // namespace fpdist::kernels
