#pragma once
// kernels/cuda: from an element's name to the kernel's template arguments.

#include "kernels/cuda/element.hpp"
#include "kernels/cuda/vector.cuh"

namespace fpdist::kernels {

template <typename T, int N>
struct Access {
  using Type = T;
  static constexpr int kElements = N;
};

/// body(Access<T, N>): T as `element` says, N elements an access: a whole vector, or 1.
template <typename Body>
void with_access(Element element, bool is_vectorised, const Body& body) {
  if (element == Element::kFloat32)
    is_vectorised ? body(Access<float, 4>{}) : body(Access<float, 1>{});
  else
    is_vectorised ? body(Access<BFloat16, 8>{}) : body(Access<BFloat16, 1>{});
}

}  // namespace fpdist::kernels
