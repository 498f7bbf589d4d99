#pragma once
// Tests: memory of this process that no file is behind.

#include <cstdint>
#include <fstream>
#include <string>

namespace fpdist::test {

/// AddressSanitizer keeps what is freed: sizes say nothing then.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kMemoryIsKept = true;
#else
constexpr bool kMemoryIsKept = false;
#endif

/// In bytes.
inline int64_t own_memory() {
  std::ifstream status("/proc/self/status");
  int64_t kib = 0;
  for (std::string word; status >> word;)
    if (word == "RssAnon:") status >> kib;
  return kib << 10;
}

}  // namespace fpdist::test
