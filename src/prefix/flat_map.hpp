#pragma once
// prefix: an open-addressing hash map from (row or node, token) to an index; one cache line a lookup in most cases.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/core/mix.hpp"

namespace fpdist::prefix {

class FlatMap {
 public:
  explicit FlatMap(size_t entries = 8) : slots_(std::bit_ceil(2 * entries + 2)) {}

  /// The value at (place, token), inserted as -1 when absent. The reference lives until the next call.
  int32_t& at(int32_t place, int32_t token) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    const uint64_t key = (uint64_t{static_cast<uint32_t>(place)} << 32) | static_cast<uint32_t>(token);
    Slot& slot = find(key);
    if (!slot.taken) slot = {key, -1, true}, ++used_;
    return slot.value;
  }

 private:
  struct Slot {
    uint64_t key = 0;
    int32_t value = -1;
    bool taken = false;
  };

  Slot& find(uint64_t key) {
    size_t i = mixed(key) & (slots_.size() - 1);  // neighbouring pairs must not pile up in one run of slots
    while (slots_[i].taken && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    return slots_[i];
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.taken) find(slot.key) = slot;
  }

  std::vector<Slot> slots_;
  size_t used_ = 0;
};

}  // namespace fpdist::prefix
