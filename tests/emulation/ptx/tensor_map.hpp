#pragma once
// tests/emulation/ptx: what TMA knows of a tensor in global memory, in the 128 bytes that cuTensorMapEncodeTiled fills.

#include <cstdint>
#include <string>

namespace fpdist::ptx {

enum class Swizzle : uint16_t { kNone = 0, k128 = 1, k64 = 2, k32 = 3 };  // as a matrix descriptor numbers them

struct TensorMap {
  static constexpr uint64_t kMagic = 0x70616d726f736e65ull;
  uint64_t magic = kMagic;
  uint64_t unused = 0;  ///< CUTLASS clears a bit of it, which works around a driver
  uint64_t base = 0;
  uint32_t rank = 0, element_bytes = 0;
  uint64_t size[5] = {}, stride[5] = {};  ///< innermost first; stride[i] in bytes, of dim i + 1
  uint16_t box[5] = {};
  Swizzle swizzle = Swizzle::kNone;
  uint32_t box_bytes() const {
    uint32_t bytes = element_bytes;
    for (uint32_t i = 0; i < rank; ++i) bytes *= box[i];
    return bytes;
  }
};
static_assert(sizeof(TensorMap) <= 128);

/// Where the byte at a shared address lies under a swizzle.
constexpr uint32_t swizzled(uint32_t address, Swizzle swizzle) {
  const uint32_t mask = swizzle == Swizzle::k128  ? 0x70
                        : swizzle == Swizzle::k64 ? 0x30
                        : swizzle == Swizzle::k32 ? 0x10
                                                  : 0;
  return address ^ (address >> 3 & mask);
}

/// Why a driver would refuse it; "" where it would not.
std::string why_refused(const TensorMap& map);

}  // namespace fpdist::ptx
