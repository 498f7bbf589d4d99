#pragma once
// kernels/cuda: what a kernel's arguments say of their elements. Plain C++: launchers take addresses and numbers, so
// that neither nvcc nor the tests of a kernel see torch.

#include <cstdint>

namespace fpdist::kernels {

enum class Element { kFloat32, kBFloat16, kFloat16 };

constexpr int64_t bytes_of(Element element) { return element == Element::kFloat32 ? 4 : 2; }

/// Elements in the 16 bytes that a lane moves at once.
constexpr int64_t elements_in_vector(Element element) { return 16 / bytes_of(element); }

/// Whether vectors may start at `address` and at every multiple of `stride` elements from it.
inline bool fits_vectors(const void* address, int64_t stride, Element element) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0 && stride % elements_in_vector(element) == 0;
}

}  // namespace fpdist::kernels
