// A token cache: as it is, and with the sums that its damaged parts would need, so that what is behind them is read
// too.

#include "src/data/source/token_cache.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fpdist/core/error.hpp"
#include "src/core/checksum.hpp"
#include "tests/fuzz/memory_file.hpp"

namespace fpdist::data {
namespace {

constexpr Digest kKey{.high = 7, .low = 9};
// Where the head has what; see token_cache.cpp.
constexpr size_t kVersionAt = 8, kKeyAt = 16, kIndexSumAt = 32, kFactsSumAt = 48, kHeadSumAt = 64, kBytesAt = 80,
                 kGroupsAt = 88, kIndexAt = 96, kFactsAt = 104, kHead = 112, kEntry = 16;
constexpr uint32_t kVersionAndEndian[2] = {2, 0x01020304};

uint64_t number_at(const std::string& bytes, size_t at) {
  uint64_t number = 0;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

template <typename T>
void put(std::string& bytes, size_t at, const T& value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

Digest sum_of(const std::string& bytes, size_t begin, size_t end) {
  return Checksum().add(bytes.data() + begin, end - begin).value();
}

/// Makes the head say what the bytes hold, where its places are inside of them, and the index that records are whole.
void mend(std::string& bytes) {
  if (bytes.size() < kHead) return;
  put(bytes, kVersionAt, kVersionAndEndian), put(bytes, kKeyAt, kKey);
  put(bytes, kBytesAt, static_cast<uint64_t>(bytes.size()));
  const uint64_t index = number_at(bytes, kIndexAt), facts = number_at(bytes, kFactsAt);
  if (index <= facts && facts <= bytes.size() && index >= kHead) {
    const uint64_t groups = (facts - index) / kEntry;
    put(bytes, kGroupsAt, groups);
    for (uint64_t g = 0; g < groups; ++g) {
      const size_t at = index + g * kEntry;
      const uint64_t begin = number_at(bytes, at), end = g + 1 < groups ? number_at(bytes, at + kEntry) : index;
      if (begin <= end && end <= bytes.size()) put(bytes, at + 8, sum_of(bytes, begin, end).low);
    }
    put(bytes, kIndexSumAt, sum_of(bytes, index, facts)), put(bytes, kFactsSumAt, sum_of(bytes, facts, bytes.size()));
  }
  put(bytes, kHeadSumAt, Digest{});
  put(bytes, kHeadSumAt, sum_of(bytes, 0, kHead));
}

void read_all(const std::string& path) {
  try {
    const TokenCache cache(path, kKey);
    for (size_t g = 0; g < cache.facts().place.size(); ++g) (void)cache.facts().where(g);
    for (int64_t id = 0; id < cache.groups(); ++id) try {
        (void)cache.group(id);
      } catch (const DataError&) {
      }
  } catch (const DataError&) {
  }
}

}  // namespace
}  // namespace fpdist::data

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fpdist::test::MemoryFile file;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  file.hold(bytes);
  fpdist::data::read_all(file.path());
  fpdist::data::mend(bytes);
  file.hold(bytes);
  fpdist::data::read_all(file.path());
  return 0;
}
