// wgmma: a warpgroup's products from shared memory, one warp's 16 rows at a time. The result is there at once, but
// until a wait covers it its registers are off limits and what it reads of shared memory may not be written. Register
// hazards go by PTX's names: colours are shared.
#include <algorithm>

#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/tensor_map.hpp"
#include "tests/emulation/ptx/tiles.hpp"

namespace fpdist::ptx {
namespace {

constexpr int kMostColumns = 256;

/// A matrix in shared memory as a 64-bit descriptor tells it.
struct Descriptor {
  uint32_t start, leading, stride, base_offset;
  Swizzle swizzle;
  explicit Descriptor(uint64_t bits)
      : start((bits & 0x3fff) << 4),
        leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4),
        base_offset(bits >> 49 & 7),
        swizzle(static_cast<Swizzle>(bits >> 62)) {}

  /// Of the 2-byte element (mn, k).
  uint32_t address(uint32_t mn, uint32_t k, bool is_mn_major) const {
    const uint32_t width = swizzle == Swizzle::k128  ? 64
                           : swizzle == Swizzle::k64 ? 32
                           : swizzle == Swizzle::k32 ? 16
                                                     : 8;  // elements of a row of the swizzle's atom
    const bool is_plain = swizzle == Swizzle::kNone;
    uint32_t at = start;
    if (is_mn_major)
      at += mn % width * 2 + k % 8 * width * 2 + (mn / width) * (is_plain ? stride : leading) +
            k / 8 * (is_plain ? leading : stride);
    else
      at += mn % 8 * width * 2 + mn / 8 * stride + (is_plain ? k % 8 * 2 + k / 8 * leading : k * 2);
    return swizzled(at, swizzle);
  }
};

/// put(i, k, value) of `rows` x 16 elements from row `first` on.
template <typename Put>
void read_operand(Warp& warp, const Op& op, uint64_t bits, uint32_t first, uint32_t rows, bool is_mn_major,
                  const Put& put) {
  const Descriptor descriptor(bits);
  if (descriptor.base_offset != 0) fail(warp, op, "has a descriptor with a base offset, which is not modelled");
  const uint8_t* const shared = warp.block->shared.bytes.data();
  const uint32_t along_mn = is_mn_major ? 8 : 1, along_k = is_mn_major ? 1 : 8;  // of 16 bytes
  for (uint32_t i = 0; i < rows; i += along_mn)
    for (uint32_t k = 0; k < 16; k += along_k) {
      const uint32_t at = descriptor.address(first + i, k, is_mn_major);
      read_shared_async(warp, op, at, 16, 0);
      warp.tensor.open.ranges.push_back({at, 16});
      uint16_t element[8];
      std::memcpy(element, shared + at, sizeof element);
      for (uint32_t e = 0; e < 8; ++e) put(is_mn_major ? i + e : i, is_mn_major ? k : k + e, from_bfloat16(element[e]));
    }
}

/// Before: a fence, nothing written since to a register it uses, A's registers not under way.
void check_registers(Warp& warp, const Op& op) {
  if (!warp.block->options->has_checks) return;
  const TensorState& state = warp.tensor;
  if (!state.is_fenced) fail(warp, op, "comes before any wgmma.fence");
  for (const auto* const list : {&op.writes, &op.reads})
    for (const Register reg : *list)
      if (state.dirty.contains(reg)) fail(warp, op, "uses a register that was written since the last wgmma.fence");
  for (const Register reg : op.reads)
    if (state.in_flight.contains(reg) && std::find(op.writes.begin(), op.writes.end(), reg) == op.writes.end())
      fail(warp, op, "reads as A a register of a wgmma under way");
}

/// Register i of the accumulators: D[g + 8 (i >> 1 & 1)][8 (i >> 2) + 2t + (i & 1)].
template <typename Body>
void each_accumulator(Warp& warp, const Op& op, float (*c)[kMostColumns], const Body& body) {
  for (size_t i = 0; i < op.to.size(); ++i)
    for (size_t lane = 0; lane < 32; ++lane)
      body(warp.lanes<float>(op.to[i])[lane], c[lane / 4 + 8 * (i >> 1 & 1)][8 * (i >> 2) + lane % 4 * 2 + (i & 1)]);
}

/// to: accumulators; A in from, or descriptor a; b: descriptor B; c: whether the accumulators count; n: N; m: bit 0
/// A is M-major, bit 1 B is N-major.
void multiply(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  need_32_lanes(warp, op);
  check_registers(warp, op);
  alignas(64) static thread_local float a[16][16], b[16][kMostColumns], c[16][kMostColumns];
  const auto columns = static_cast<uint32_t>(op.n);
  if (op.from.empty())
    read_operand(warp, op, warp.d(op.a)[0], static_cast<uint32_t>(warp.id % 4) * 16, 16, op.m & 1,
                 [&](uint32_t i, uint32_t k, float value) { a[i][k] = value; });
  else
    read_a_tile<from_bfloat16>(warp, op.from, a);
  read_operand(warp, op, warp.d(op.b)[0], 0, columns, op.m & 2,
               [&](uint32_t i, uint32_t k, float value) { b[k][i] = value; });
  const bool is_added = warp.p(op.c) & 1;
  each_accumulator(warp, op, c, [&](const float& reg, float& place) { place = is_added ? reg : 0.0f; });
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (uint32_t column = 0; column < columns; ++column) c[row][column] += a[row][k] * b[k][column];
  each_accumulator(warp, op, c, [](float& reg, const float& place) { reg = place; });
  for (const Register reg : op.writes) ++warp.tensor.in_flight[reg], warp.tensor.open.registers.push_back(reg);
  for (const Register reg : op.reads) {
    if (reg.width != Width::k32) continue;  // descriptors are read at once
    ++warp.tensor.in_flight[reg], warp.tensor.open.registers.push_back(reg);
  }
  ++warp.block->counters->wgmma;
  warp.block->counters->tensor_flop += uint64_t{2 * 16 * 16} * columns;
}

void fence(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  warp.tensor.is_fenced = true;
  warp.tensor.dirty.clear();
}

void commit(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  warp.tensor.groups.push_back(std::move(warp.tensor.open));
  warp.tensor.open = {};
}

/// n: groups that may stay under way. A warp's wait speaks for its own quarter only.
void wait(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  TensorState& state = warp.tensor;
  while (state.groups.size() > static_cast<size_t>(op.n)) {
    for (const SharedRange& range : state.groups.front().ranges) end_async_read(warp, range);
    for (const Register reg : state.groups.front().registers)
      if (--state.in_flight[reg] == 0) state.in_flight.erase(reg);
    state.groups.pop_front();
  }
  // The same words may be read by one still under way.
  const auto again = [&](const TensorGroup& group) {
    for (const SharedRange& range : group.ranges) mark_async_read(warp, range);
  };
  for (const TensorGroup& group : state.groups) again(group);
  again(state.open);
}

/// "m64n128k16" -> 128; 0: another shape.
int columns_of(const std::string& shape) {
  int columns = 0, length = 0;
  const bool is_read = std::sscanf(shape.c_str(), "m64n%dk16%n", &columns, &length) == 1;
  return is_read && static_cast<size_t>(length) == shape.size() && columns % 8 == 0 && columns <= kMostColumns ? columns
                                                                                                               : 0;
}

bool decode_multiply(Decoder& decoder, const Instruction& instruction, Op& op) {
  const std::vector<std::string>& operand = instruction.operand;
  const std::string prefix = "wgmma.mma_async.sync.aligned.", suffix = ".f32.bf16.bf16";
  const std::string& name = instruction.name;
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return false;
  op.n = columns_of(name.substr(prefix.size(), name.size() - prefix.size() - suffix.size()));
  if (op.n == 0 || operand.size() < 7 || operand[4] != "1" || operand[5] != "1") return false;  // negated: not modelled
  const bool has_registers = operand[1][0] == '{';
  if (operand.size() != (has_registers ? 7 : 8)) return false;
  op.run = multiply, op.is_tensor = true;
  if (has_registers)
    op.from = decoder.read_list(op, operand[1], Width::k32);
  else
    op.a = decoder.read(op, operand[1], Width::k64);
  op.b = decoder.read(op, operand[2], Width::k64), op.c = decoder.read(op, operand[3], Width::kPredicate);
  op.to = decoder.write_list(op, operand[0], Width::k32);
  decoder.read_list(op, operand[0], Width::k32);  // the accumulators are read too
  op.m = has_registers ? std::stoi(operand[6]) << 1 : std::stoi(operand[6]) | std::stoi(operand[7]) << 1;
  return op.to.size() == static_cast<size_t>(op.n) / 2 && (!has_registers || op.from.size() == 4);
}

}  // namespace

void check_tensor_registers(Warp& warp, const Op& op) {
  if (op.is_tensor) return;
  if (!warp.tensor.in_flight.empty())
    for (const auto* const list : {&op.reads, &op.writes})
      for (const Register reg : *list)
        if (warp.tensor.in_flight.contains(reg))
          fail(warp, op, "touches a register of a wgmma that was not waited for");
  if (op.writes_tensor_registers) warp.tensor.dirty.insert(op.writes.begin(), op.writes.end());
}

bool decode_wgmma(Decoder& decoder, const Instruction& instruction, Op& op) {
  const std::string& name = instruction.name;
  op.is_tensor = name.starts_with("wgmma.");
  if (name == "wgmma.fence.sync.aligned") return op.run = fence, true;
  if (name == "wgmma.commit_group.sync.aligned") return op.run = commit, true;
  if (name == "wgmma.wait_group.sync.aligned" && instruction.operand.size() == 1) {
    op.run = wait, op.n = std::stoi(instruction.operand[0]);
    return true;
  }
  return decode_multiply(decoder, instruction, op);
}

}  // namespace fpdist::ptx
