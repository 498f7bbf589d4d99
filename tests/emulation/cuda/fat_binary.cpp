// As CUDA 13.0 lays it out: a header, then entries back to back, each with its own header: PTX or machine code, for one
// architecture, compressed or not.
#include "tests/emulation/cuda/fat_binary.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace fpdist::emulated {
namespace {

constexpr uint32_t kWrapperMagic = 0x466243b1, kMagic = 0xba55ed50;
constexpr uint16_t kPtx = 1;

struct Wrapper {
  uint32_t magic, version;
  const char* data;
  const void* more;
};
struct Header {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;  ///< of all entries
};
struct Entry {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t bytes;  ///< behind the header
  uint32_t stored_bytes, unknown;
  uint16_t minor, major;
  uint32_t architecture;
};

/// Plain text has its first directive near its beginning.
bool is_text(const char* payload, uint64_t bytes) {
  const std::string beginning(payload, std::min<uint64_t>(bytes, 400));
  return beginning.find(".version") != std::string::npos;
}

}  // namespace

std::string ptx_in(const void* wrapper, int most) {
  Wrapper outer;
  std::memcpy(&outer, wrapper, sizeof outer);
  Header header;
  if (outer.magic != kWrapperMagic || outer.data == nullptr) return "";
  std::memcpy(&header, outer.data, sizeof header);
  if (header.magic != kMagic) return "";
  const char* at = outer.data + header.header_bytes;
  const char* const end = at + header.bytes;
  std::string text;
  for (uint32_t highest = 0; at < end;) {
    Entry entry;
    std::memcpy(&entry, at, sizeof entry);
    const char* const payload = at + entry.header_bytes;
    if (entry.kind == kPtx && entry.architecture > highest && entry.architecture <= static_cast<uint32_t>(most) &&
        is_text(payload, entry.bytes)) {
      text.assign(payload, strnlen(payload, entry.bytes));
      highest = entry.architecture;
    }
    at = payload + entry.bytes;
  }
  return text;
}

}  // namespace fpdist::emulated
