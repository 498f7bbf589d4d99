// What a GPU would not say: bounds, alignment, reads of what nobody wrote, races.
//
// Shared memory: every warp has a clock, which its barriers advance, and knows how far it has seen each other warp's. A
// read needs to have seen the last write; a write that, and every read. Within one clock of a warp its lanes are not
// ordered either. Global memory: two blocks of a launch that touch the same byte, one of them writing, race.
#include <algorithm>

#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

void fail(const Warp& warp, const Op& op, const std::string& what, int lane) {
  const auto& at = warp.block->at;
  std::string where = warp.block->kernel->name + ": block (" + std::to_string(at[0]) + "," + std::to_string(at[1]) +
                      "," + std::to_string(at[2]) + ") warp " + std::to_string(warp.id);
  if (lane >= 0) where += " lane " + std::to_string(lane);
  throw Fault(where + ", " + op.place + ": `" + op.text + "` " + what);
}

namespace {

void check_shared_bounds(const Warp& warp, const Op& op, uint32_t address, uint32_t bytes, uint32_t alignment,
                         int lane) {
  if (address % alignment != 0)
    fail(warp, op, "is misaligned: shared " + hex(address) + ", needs " + std::to_string(alignment), lane);
  if (address < kReservedShared || uint64_t{address} + bytes > warp.block->shared.bytes.size())
    fail(warp, op, "is outside the block's shared memory: " + hex(address), lane);
}

/// The bytes of word `word` that an access covers.
uint8_t bytes_in_word(uint32_t word, uint32_t address, uint32_t bytes) {
  const uint32_t from = std::max(address, word * 4) - word * 4, to = std::min(address + bytes, word * 4 + 4) - word * 4;
  return static_cast<uint8_t>(((1u << to) - 1) & ~((1u << from) - 1));
}

std::string told(const SharedMemory::Word& word) {
  const std::string who = word.writer < kWarps
                              ? "warp " + std::to_string(word.writer) + " lane " + std::to_string(word.lane)
                              : std::string("a bulk copy");
  return who + " wrote at " + word.op->place;
}

void check_not_coming(const Warp& warp, const Op& op, uint32_t word, int lane, const char* does) {
  const SharedMemory::Word& now = warp.block->shared.word[word];
  if (!now.is_coming) return;
  fail(
      warp, op,
      std::string(does) + " shared " + hex(word * 4) + " while a copy into it is under way, issued at " + now.op->place,
      lane);
}

void check_seen(const Warp& warp, const Op& op, uint32_t word, int lane, const char* does) {
  const SharedMemory::Word& last = warp.block->shared.word[word];
  if (last.clock == 0) return;
  const bool is_own = last.writer == warp.id;
  const bool is_ordered = is_own ? last.lane == lane || last.clock < warp.seen[static_cast<size_t>(warp.id)]
                                 : last.clock <= warp.seen[last.writer];
  if (is_ordered) return;
  const std::string what = std::string("races: ") + does + " shared " + hex(word * 4);
  fail(warp, op, what + ", which " + told(last) + ", with no barrier between", lane);
}

void check_read(const Warp& warp, const Op& op, uint32_t word, uint8_t needed, int lane) {
  check_not_coming(warp, op, word, lane, "reads");
  if ((warp.block->shared.word[word].written & needed) != needed)
    fail(warp, op, "reads shared " + hex(word * 4) + ", which nobody has written", lane);
  check_seen(warp, op, word, lane, "reads");
}

/// Nobody reads the word who is not known to be done.
void check_not_read(const Warp& warp, const Op& op, uint32_t word, int lane) {
  const SharedMemory& shared = warp.block->shared;
  for (size_t other = 0; other < warp.block->warp.size(); ++other) {
    const uint32_t clock = shared.read_clock[other * shared.word.size() + word];
    const bool is_own = other == static_cast<size_t>(warp.id);
    if (clock != SharedMemory::kUnderWay && (is_own || clock <= warp.seen[other])) continue;
    const std::string which = "warp " + std::to_string(other), where = shared.reader[word]->place;
    if (clock == SharedMemory::kUnderWay)
      fail(warp, op,
           "writes shared " + hex(word * 4) + " while " + which + "'s wgmma or bulk store at " + where +
               " still reads it",
           lane);
    fail(warp, op,
         "races: writes shared " + hex(word * 4) + ", which " + which + " reads at " + where +
             ", with no barrier between",
         lane);
  }
}

}  // namespace

void read_shared(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane) {
  check_shared_bounds(warp, op, address, bytes, bytes, lane);
  if (!warp.block->options->has_checks) return;
  SharedMemory& shared = warp.block->shared;
  const auto self = static_cast<size_t>(warp.id);
  for (uint32_t word = address / 4; word < (address + bytes + 3) / 4; ++word) {
    check_read(warp, op, word, bytes_in_word(word, address, bytes), lane);
    uint32_t& clock = shared.read_clock[self * shared.word.size() + word];
    if (clock == SharedMemory::kUnderWay) continue;
    clock = warp.seen[self], shared.reader[word] = &op;
  }
}

void read_shared_async(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane) {
  check_shared_bounds(warp, op, address, bytes, bytes, lane);
  if (!warp.block->options->has_checks) return;
  SharedMemory& shared = warp.block->shared;
  for (uint32_t word = address / 4; word < (address + bytes + 3) / 4; ++word) {
    check_read(warp, op, word, bytes_in_word(word, address, bytes), lane);
    const SharedMemory::Word& last = shared.word[word];
    if (!last.is_async && last.clock > warp.seen_async[last.writer])
      fail(warp, op,
           "reads through the async proxy shared " + hex(word * 4) + ", which " + told(last) +
               ", with no fence.proxy.async between",
           lane);
    shared.reader[word] = &op;
  }
  mark_async_read(warp, {address, bytes});
}

void mark_async_read(Warp& warp, const SharedRange& range) {
  SharedMemory& shared = warp.block->shared;
  for (uint32_t word = range.address / 4; word < (range.address + range.bytes + 3) / 4; ++word)
    shared.read_clock[static_cast<size_t>(warp.id) * shared.word.size() + word] = SharedMemory::kUnderWay;
}

void end_async_read(Warp& warp, const SharedRange& range) {
  SharedMemory& shared = warp.block->shared;
  const auto self = static_cast<size_t>(warp.id);
  for (uint32_t word = range.address / 4; word < (range.address + range.bytes + 3) / 4; ++word)
    shared.read_clock[self * shared.word.size() + word] = warp.seen[self];
}

void write_shared(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane) {
  check_shared_bounds(warp, op, address, bytes, bytes, lane);
  if (!warp.block->options->has_checks) return;
  SharedMemory& shared = warp.block->shared;
  for (uint32_t word = address / 4; word < (address + bytes + 3) / 4; ++word) {
    check_not_coming(warp, op, word, lane, "writes");
    if (bytes_in_word(word, address, bytes) == 15) check_seen(warp, op, word, lane, "overwrites");
    check_not_read(warp, op, word, lane);
    SharedMemory::Word& now = shared.word[word];
    now.written |= bytes_in_word(word, address, bytes);
    now.is_async = false, now.op = &op;
    now.writer = static_cast<uint16_t>(warp.id), now.lane = static_cast<uint8_t>(lane);
    now.clock = warp.seen[static_cast<size_t>(warp.id)];
  }
}

void start_copy(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane, uint32_t alignment) {
  check_shared_bounds(warp, op, address, bytes, alignment, lane);
  if (!warp.block->options->has_checks) return;
  SharedMemory& shared = warp.block->shared;
  for (uint32_t word = address / 4; word < (address + bytes) / 4; ++word) {
    check_not_coming(warp, op, word, lane, "copies into");
    check_seen(warp, op, word, lane, "copies into");
    check_not_read(warp, op, word, lane);
    shared.word[word].is_coming = true, shared.word[word].op = &op;
  }
}

void end_copy(Block& block, uint32_t address, uint32_t bytes, const SharedMemory::Word& word) {
  for (uint32_t at = address / 4; at < (address + bytes) / 4; ++at) block.shared.word[at] = word;
}

void count_shared(Warp& warp, const uint32_t* address, uint32_t mask, uint32_t bytes) {
  Counters& counters = *warp.block->counters;
  ++counters.shared_requests;
  const int lanes = bytes >= 16 ? 8 : bytes == 8 ? 16 : 32;  // of a phase of 128 bytes
  for (int first = 0; first < 32; first += lanes) {
    uint32_t word[32][32];  // [bank]: the distinct words asked of it
    uint8_t count[32] = {};
    uint8_t most = 0;
    each_lane(mask & (lanes == 32 ? ~0u : ((1u << lanes) - 1) << first), [&](int lane) {
      for (uint32_t at = 0; at < std::max(bytes, 4u); at += 4) {
        const uint32_t asked = (address[lane] + at) / 4, bank = asked % 32;
        uint32_t* const begin = word[bank];
        if (std::find(begin, begin + count[bank], asked) != begin + count[bank]) continue;
        begin[count[bank]++] = asked;
        most = std::max(most, count[bank]);
      }
    });
    counters.shared_waves += most, counters.least_shared_waves += most > 0;
  }
}

namespace {

/// The allocation that holds the bytes; few are in use at once, and they are remembered.
const Extent& extent_of(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, uint32_t alignment, int lane,
                        const char* does) {
  Block& block = *warp.block;
  if (address % alignment != 0)
    fail(warp, op, "is misaligned: global " + hex(address) + ", needs " + std::to_string(alignment), lane);
  for (const Extent& extent : block.extent)
    if (extent.holds(address, bytes)) return extent;
  const Extent found = block.memory->find(address);
  if (found.holds(address, bytes)) return block.extent.emplace_back(found);
  std::string story = std::string(does) + " outside every allocation: " + hex(address);
  if (found.end >= found.begin)
    story += ", " + std::to_string(address + bytes - found.end) + " bytes past the end of one of " +
             std::to_string(found.end - found.begin);
  fail(warp, op, story, lane);
}

/// Notes that this block touches a byte; true where another one has.
bool is_shared_with_others(uint32_t& note, uint32_t self) {
  const bool is_other = note != Shadow::kNobody && note != self;
  note = is_other ? Shadow::kMany : self;
  return is_other;
}

}  // namespace

void read_global(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, int lane) {
  read_global_aligned(warp, op, address, bytes, lane, bytes);
}

void read_global_aligned(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, int lane, uint32_t alignment) {
  const Extent& extent = extent_of(warp, op, address, bytes, alignment, lane, "reads");
  if (extent.shadow == nullptr || !warp.block->options->has_checks) return;
  const uint32_t self = warp.block->number + 1;
  for (uint64_t at = address - extent.begin; at < address - extent.begin + bytes; ++at) {
    if (!extent.shadow->is_written[at])
      fail(warp, op, "reads byte " + std::to_string(at) + " of an allocation, which nobody has written", lane);
    if (const uint32_t writer = extent.shadow->writer[at]; writer != Shadow::kNobody && writer != self)
      fail(warp, op, "races: reads byte " + std::to_string(at) + " of an allocation, which another block wrote", lane);
    is_shared_with_others(extent.shadow->reader[at], self);
  }
}

void write_global(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, int lane) {
  const Extent& extent = extent_of(warp, op, address, bytes, bytes, lane, "writes");
  if (extent.shadow == nullptr || !warp.block->options->has_checks) return;
  const uint32_t self = warp.block->number + 1;
  for (uint64_t at = address - extent.begin; at < address - extent.begin + bytes; ++at) {
    const uint32_t reader = extent.shadow->reader[at];
    if (is_shared_with_others(extent.shadow->writer[at], self) || (reader != Shadow::kNobody && reader != self))
      fail(warp, op, "races: writes byte " + std::to_string(at) + " of an allocation that another block uses", lane);
    extent.shadow->is_written[at] = true;
  }
}

void count_global(Warp& warp, const uint64_t* address, uint32_t mask, uint32_t bytes) {
  Counters& counters = *warp.block->counters;
  uint64_t pieces[256];  // 16 bytes lie in one sector: an access is aligned
  size_t count = 0;
  each_lane(mask, [&](int lane) { pieces[count++] = address[lane]; });
  std::sort(pieces, pieces + count);
  count = static_cast<size_t>(std::unique(pieces, pieces + count) - pieces);
  uint64_t sectors = 0;
  for (size_t i = 0; i < count; ++i) sectors += i == 0 || pieces[i] / 32 != pieces[i - 1] / 32;
  ++counters.global_requests;
  counters.global_bytes += static_cast<uint64_t>(std::popcount(mask)) * bytes;
  counters.global_sectors += sectors, counters.least_sectors += (count * bytes + 31) / 32;
}

void TestMemory::add(const void* address, uint64_t bytes, bool is_written) {
  const auto begin = reinterpret_cast<uint64_t>(address);
  Block block{.extent = {begin, begin + bytes}, .shadow = std::make_shared<Shadow>()};
  block.shadow->is_written.assign(bytes, is_written);
  block.extent.shadow = block.shadow.get();
  block_[begin] = block;
}

void TestMemory::mark_written(const void* address, uint64_t bytes) {
  const auto begin = reinterpret_cast<uint64_t>(address);
  const Extent extent = find(begin);
  for (uint64_t at = begin - extent.begin; at < begin - extent.begin + bytes; ++at)
    extent.shadow->is_written[at] = true;
}

Extent TestMemory::find(uint64_t address) {
  const auto after = block_.upper_bound(address);
  return after == block_.begin() ? Extent{} : std::prev(after)->second.extent;
}

void TestMemory::start_launch() {
  for (auto& [begin, block] : block_) {
    block.shadow->writer.assign(block.shadow->is_written.size(), Shadow::kNobody);
    block.shadow->reader = block.shadow->writer;
  }
}

}  // namespace fpdist::ptx
