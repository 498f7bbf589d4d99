#include "kernels/tree_attention/blocked/blocked_kernel.hpp"

#ifdef __AVX512BF16__
#include "kernels/tree_attention/blocked/vector_avx512.hpp"
// The vectors come first: what follows is written in them.
#include "kernels/tree_attention/blocked/kernel_of.hpp"
#endif

namespace fpdist::kernels {

#ifdef __AVX512BF16__
const BlockedKernel* blocked_kernel_avx512_bf16() {
  static constexpr BlockedKernel kKernel = KernelOf<Avx512Bf16>::make("avx512_bf16");
  return &kKernel;
}
#else
const BlockedKernel* blocked_kernel_avx512_bf16() { return nullptr; }
#endif

}  // namespace fpdist::kernels
