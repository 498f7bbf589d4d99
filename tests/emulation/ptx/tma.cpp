// TMA: boxes of a tensor between global and shared memory, and plain runs of bytes. A load lands when nobody can go on
// otherwise; until then its words are nobody's. Outside the tensor a load gives zeros and a store does nothing; either
// way the whole box counts.
#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

/// body(shared address, global address or 0) of every element of the box, innermost first.
template <typename Body>
void each_element(const BulkCopy& copy, const Body& body) {
  const TensorMap& map = copy.map;
  uint32_t lines = 1;
  for (uint32_t i = 1; i < map.rank; ++i) lines *= map.box[i];
  for (uint32_t line = 0; line < lines; ++line) {
    uint32_t rest = line;
    uint64_t begin = map.base;
    bool is_inside = true;
    for (uint32_t i = 1; i < map.rank; ++i) {
      const int64_t x = copy.at[i] + static_cast<int64_t>(rest % map.box[i]);
      rest /= map.box[i];
      is_inside = is_inside && x >= 0 && x < static_cast<int64_t>(map.size[i]);
      begin += static_cast<uint64_t>(x) * map.stride[i - 1];
    }
    for (uint32_t element = 0; element < map.box[0]; ++element) {
      const int64_t x = copy.at[0] + static_cast<int64_t>(element);
      const bool is_there = is_inside && x >= 0 && x < static_cast<int64_t>(map.size[0]);
      const uint32_t to = copy.shared + (line * map.box[0] + element) * map.element_bytes;
      body(swizzled(to, map.swizzle), is_there ? begin + static_cast<uint64_t>(x) * map.element_bytes : 0);
    }
  }
}

BulkCopy copy_of(Warp& warp, const Op& op, int lane) {
  BulkCopy copy{.op = &op, .shared = warp.r(op.a)[lane] + static_cast<uint32_t>(op.offset)};
  const uint64_t map = warp.d(op.b)[lane];
  read_global_aligned(warp, op, map, sizeof copy.map, lane, 64);
  std::memcpy(&copy.map, reinterpret_cast<const void*>(map), sizeof copy.map);
  if (copy.map.magic != TensorMap::kMagic) fail(warp, op, "is given something that is not a tensor map", lane);
  if (copy.map.rank != op.from.size()) fail(warp, op, "has another rank than its tensor map", lane);
  for (size_t i = 0; i < op.from.size(); ++i) copy.at[i] = static_cast<int32_t>(warp.r(op.from[i])[lane]);
  warp.block->counters->tma_bytes += copy.map.box_bytes();
  return copy;
}

/// It will report to the mbarrier.
void start(Warp& warp, const Op& op, BulkCopy copy, uint32_t mbarrier, int lane, uint32_t alignment) {
  copy.mbarrier = mbarrier;
  const bool is_fenced = mbarrier_at(warp, op, mbarrier, lane).is_fenced;
  if (!is_fenced) fail(warp, op, "uses an mbarrier that no fence made visible to the async proxy", lane);
  start_copy(warp, op, copy.shared, copy.map.box_bytes(), lane, alignment);
  warp.block->bulk_copies.push_back(copy);
}

void load(Warp& warp, const Op& op) {  // c: the mbarrier
  each_lane(warp.exec, [&](int lane) { start(warp, op, copy_of(warp, op, lane), warp.r(op.c)[lane], lane, 128); });
}

/// A run of bytes: b: where from, e: how many, c: the mbarrier.
void load_run(Warp& warp, const Op& op) {
  constexpr uint32_t kUnit = 16;
  each_lane(warp.exec, [&](int lane) {
    BulkCopy copy{.op = &op, .shared = warp.r(op.a)[lane] + static_cast<uint32_t>(op.offset)};
    const uint32_t bytes = warp.r(op.e)[lane];
    if (bytes == 0 || bytes % kUnit != 0) fail(warp, op, "copies no whole number of 16 bytes", lane);
    const uint64_t from = warp.d(op.b)[lane];
    read_global_aligned(warp, op, from, bytes, lane, kUnit);
    copy.map.base = from, copy.map.rank = 1, copy.map.element_bytes = kUnit;
    copy.map.size[0] = copy.map.box[0] = static_cast<uint16_t>(bytes / kUnit);
    warp.block->counters->tma_bytes += bytes;
    start(warp, op, copy, warp.r(op.c)[lane], lane, kUnit);
  });
}

void store(Warp& warp, const Op& op) {
  each_lane(warp.exec, [&](int lane) {
    const BulkCopy copy = copy_of(warp, op, lane);
    const uint8_t* const shared = warp.block->shared.bytes.data();
    const uint32_t bytes = copy.map.element_bytes;
    each_element(copy, [&](uint32_t from, uint64_t to) {
      if (to == 0) return;
      read_shared_async(warp, op, from, bytes, lane);
      write_global(warp, op, to, bytes, lane);
      std::memcpy(reinterpret_cast<void*>(to), shared + from, bytes);
    });
    warp.bulk_reads.push_back({copy.shared, copy.map.box_bytes()});
  });
}

/// What stores read is free again.
void wait_bulk(Warp& warp, const Op&) {
  for (const SharedRange& range : warp.bulk_reads) end_async_read(warp, range);
  warp.bulk_reads.clear();
}

void nothing(Warp&, const Op&) {}

}  // namespace

void land_bulk_copy(Block& block, size_t which) {
  const BulkCopy copy = block.bulk_copies[which];
  block.bulk_copies.erase(block.bulk_copies.begin() + static_cast<std::ptrdiff_t>(which));
  const uint32_t bytes = copy.map.element_bytes;
  each_element(copy, [&](uint32_t to, uint64_t from) {
    uint8_t* const place = block.shared.bytes.data() + to;
    if (from == 0) {
      std::memset(place, 0, bytes);
      return;
    }
    if (!block.memory->find(from).holds(from, bytes))
      throw Fault(block.kernel->name + ": " + copy.op->place + ": `" + copy.op->text +
                  "` reads outside every allocation: " + hex(from));
    std::memcpy(place, reinterpret_cast<const void*>(from), bytes);
  });
  Mbarrier& barrier = block.mbarrier.at(copy.mbarrier);
  end_copy(block, copy.shared, copy.map.box_bytes(),
           {.written = 15,
            .is_async = true,
            .writer = static_cast<uint16_t>(barrier.agent),
            .clock = barrier.phase + 1,
            .op = copy.op});
  barrier.bytes -= copy.map.box_bytes();
  if (barrier.bytes < 0 && barrier.pending != barrier.expected)
    throw Fault(block.kernel->name + ": " + copy.op->place + ": `" + copy.op->text + "` brings " +
                std::to_string(-barrier.bytes) + " bytes more than its mbarrier expects");
  step_phase(block, barrier);
  block.has_progressed = true;
}

std::string why_refused(const TensorMap& map) {
  const uint32_t most = map.swizzle == Swizzle::k128  ? 128
                        : map.swizzle == Swizzle::k64 ? 64
                        : map.swizzle == Swizzle::k32 ? 32
                                                      : ~0u;
  const uint32_t inner = map.box[0] * map.element_bytes;
  if (map.rank < 1 || map.rank > 5) return "its rank is not 1 to 5";
  if (map.base % 16 != 0) return "its base is not 16-byte aligned";
  if (inner % 16 != 0 || inner > most)
    return "the inner side of its box is no multiple of 16 bytes, or wider than the swizzle";
  for (uint32_t i = 0; i < map.rank; ++i) {
    if (map.box[i] == 0 || map.box[i] > 256) return "a side of its box is not 1 to 256";
    if (i + 1 < map.rank && (map.stride[i] % 16 != 0 || map.stride[i] >= uint64_t{1} << 40))
      return "a stride is no multiple of 16 bytes, or not below 2^40";
    const uint64_t before = i == 0 ? map.element_bytes : map.stride[i - 1];
    if (i + 1 < map.rank && (map.stride[i] < map.size[i] * before || map.stride[i] % before != 0))
      return "a stride does not hold what it steps over, or is no multiple of the one before";
  }
  return "";
}

namespace {

/// "[to], [from], bytes, [mbarrier]"
bool decode_run(Decoder& decoder, const Instruction& instruction, Op& op) {
  const std::vector<std::string>& operand = instruction.operand;
  if (operand.size() != 4) return false;
  op.c = decoder.read_address(op, operand[3], Width::k32);
  if (op.offset == 0) op.b = decoder.read_address(op, operand[1], Width::k64);
  if (op.offset != 0) decoder.refuse("has a displacement at its mbarrier or source");
  op.a = decoder.read_address(op, operand[0], Width::k32), op.e = decoder.read(op, operand[2], Width::k32);
  op.run = load_run;
  return true;
}

}  // namespace

bool decode_tma(Decoder& decoder, const Instruction& instruction, Op& op) {
  const std::vector<std::string>& operand = instruction.operand;
  const std::string& name = instruction.name;
  if (name == "cp.async.bulk.commit_group") return op.run = nothing, true;
  if (name == "cp.async.bulk.wait_group" || name == "cp.async.bulk.wait_group.read") {
    if (operand.size() != 1 || operand[0] != "0") return false;
    return op.run = wait_bulk, true;
  }
  if (name == "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes")
    return decode_run(decoder, instruction, op);
  const std::string prefix = "cp.async.bulk.tensor.";
  if (!name.starts_with(prefix)) return false;
  const std::string rest = name.substr(prefix.size() + 3);  // behind "2d."
  const bool is_store = rest == "global.shared::cta.bulk_group";
  const std::string arrives = "global.mbarrier::complete_tx::bytes";
  const bool is_load = rest == "shared::cluster." + arrives || rest == "shared::cta." + arrives;
  const bool is_hinted = rest == "shared::cluster." + arrives + ".L2::cache_hint";
  if (!is_store && !is_load && !is_hinted) return false;
  if (operand.size() != (is_store ? 2 : is_load ? 3 : 4)) return false;
  const std::string& tensor = operand[is_store ? 0 : 1];  // "[%rd1, {%r1, %r2}]"
  const std::vector<std::string> parts = split(tensor.substr(1, tensor.size() - 2), ',');
  if (parts.size() != 2) return false;
  op.b = decoder.read(op, parts[0], Width::k64), op.from = decoder.read_list(op, parts[1], Width::k32);
  if (!is_store) op.c = decoder.read_address(op, operand[2], Width::k32);
  if (op.offset != 0) decoder.refuse("has a displacement at its mbarrier");
  op.a = decoder.read_address(op, operand[is_store ? 1 : 0], Width::k32);
  op.run = is_store ? store : load;
  return true;
}

}  // namespace fpdist::ptx
