#pragma once
// tree_attention, blocked: an instruction set's way, from its vectors.

#include "kernels/tree_attention/blocked/backward.hpp"
#include "kernels/tree_attention/blocked/forward.hpp"

namespace fpdist::kernels {

template <class I>
struct KernelOf {
  static int64_t scratch_bytes(const BlockedProblem& problem) {
    const int64_t forward = Forward<I>::scratch_words(problem), backward = Backward<I>::scratch_words(problem);
    return (forward > backward ? forward : backward) * 4;
  }
  static constexpr BlockedKernel make(const char* name) {
    return {.name = name,
            .word = I::kWord,
            .scratch_bytes = scratch_bytes,
            .pack_panels = Packing<I>::panels,
            .forward = Forward<I>::run,
            .pack_rows = Packing<I>::rows,
            .backward = Backward<I>::run,
            .round = Packing<I>::round};
  }
};

}  // namespace fpdist::kernels
