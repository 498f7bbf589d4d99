#include "kernels/tree_attention/blocked/blocked_kernel.hpp"

#ifdef __AVX512F__
#include "kernels/tree_attention/blocked/vector_avx512.hpp"
// The vectors come first: what follows is written in them.
#include "kernels/tree_attention/blocked/kernel_of.hpp"
#endif

namespace fpdist::kernels {

#ifdef __AVX512F__
const BlockedKernel* blocked_kernel_avx512() {
  static constexpr BlockedKernel kKernel = KernelOf<Avx512>::make("avx512");
  return &kKernel;
}
#else
const BlockedKernel* blocked_kernel_avx512() { return nullptr; }
#endif

}  // namespace fpdist::kernels
