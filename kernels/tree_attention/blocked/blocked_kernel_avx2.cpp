#include "kernels/tree_attention/blocked/blocked_kernel.hpp"

#ifdef __AVX2__
#include "kernels/tree_attention/blocked/vector_avx2.hpp"
// The vectors come first: what follows is written in them.
#include "kernels/tree_attention/blocked/kernel_of.hpp"
#endif

namespace fpdist::kernels {

#ifdef __AVX2__
const BlockedKernel* blocked_kernel_avx2() {
  static constexpr BlockedKernel kKernel = KernelOf<Avx2>::make("avx2");
  return &kKernel;
}
#else
const BlockedKernel* blocked_kernel_avx2() { return nullptr; }
#endif

}  // namespace fpdist::kernels
