#pragma once
// Tests: what an emulated GPU was asked while something ran: the laws of bytes and launches that need no card.

#include <dlfcn.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "tests/emulation/aten/operator_counts.hpp"
#include "tests/emulation/cuda/kernel_counts.hpp"

namespace fpdist::test {

struct Asked {
  uint64_t operators = 0, launches = 0;  ///< torch's operators, a kernel or more each; our kernels
  uint64_t bytes = 0;                    ///< that both moved, products and tiles of attention left out
};

/// What all have been asked so far, the device being idle; none on a real GPU, which does not count.
inline std::optional<Asked> asked_so_far() {
  const auto operators = reinterpret_cast<decltype(&fpdist_emulated_operator_counts)>(
      dlsym(RTLD_DEFAULT, "fpdist_emulated_operator_counts"));
  const auto kernels =
      reinterpret_cast<decltype(&fpdist_emulated_kernel_counts)>(dlsym(RTLD_DEFAULT, "fpdist_emulated_kernel_counts"));
  if (operators == nullptr || kernels == nullptr) return std::nullopt;
  emulated::OperatorCounts aten;
  operators("aten::", &aten);
  emulated::KernelCounts own;
  kernels("", &own);
  Asked asked{.operators = aten.calls, .launches = own.launches, .bytes = aten.bytes + 32 * own.sectors};
  for (const char* const tiles : {"attention_forward", "key_gradients", "query_gradients"}) {
    kernels(tiles, &own);
    asked.bytes -= 32 * own.sectors;
  }
  return asked;
}

/// By `run`, which leaves the device idle.
inline std::optional<Asked> asked_by(const std::function<void()>& run) {
  const auto before = asked_so_far();
  run();
  const auto after = asked_so_far();
  if (!before || !after) return std::nullopt;
  return Asked{after->operators - before->operators, after->launches - before->launches, after->bytes - before->bytes};
}

}  // namespace fpdist::test
