#pragma once
// Counts the bytes of CPU tensors by the thread that allocated them. Sees what torch's allocator hands out (every
// at::Tensor), not std::vector or stacks. A block is its allocating thread's until it is freed, on whatever thread.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace fpdist::bench {

/// Live bytes and their highest value since the last restart().
class ByteCounter {
 public:
  int64_t live() const { return live_.load(); }
  int64_t peak() const { return peak_.load(); }
  void restart() { peak_.store(live()); }
  void add(int64_t bytes) {
    const int64_t now = live_.fetch_add(bytes) + bytes;
    for (int64_t seen = peak_.load(); now > seen && !peak_.compare_exchange_weak(seen, now);) continue;
  }

 private:
  std::atomic<int64_t> live_{0}, peak_{0};
};

/// The calling thread's counter; null: nothing it allocates is counted. Must outlive the blocks.
inline ByteCounter*& thread_counter() {
  thread_local ByteCounter* counter = nullptr;
  return counter;
}

/// torch's own CPU memory with a header in front of each block that says who pays for it.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    auto* block = static_cast<std::byte*>(c10::alloc_cpu(bytes + kHeader));
    new (block) Header{thread_counter(), static_cast<int64_t>(bytes)};
    if (thread_counter() != nullptr) thread_counter()->add(static_cast<int64_t>(bytes));
    std::byte* data = block + kHeader;
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t count) const override { std::memcpy(to, from, count); }

 private:
  struct Header {
    ByteCounter* counter;
    int64_t bytes;
  };
  static constexpr size_t kHeader = 64;  // keeps the alignment of the data
  static_assert(sizeof(Header) <= kHeader);

  static void release(void* data) {
    if (data == nullptr) return;
    auto* block = static_cast<std::byte*>(data) - kHeader;
    const Header header = *std::launder(reinterpret_cast<Header*>(block));
    if (header.counter != nullptr) header.counter->add(-header.bytes);
    c10::free_cpu(block);
  }
};

}  // namespace fpdist::bench
