// Conversions, packs, address spaces and comparisons.
#include <cmath>
#include <limits>

#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/float16.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

/// 16-bit values live in the lower half of 32-bit registers.
template <typename T>
T value_in(const void* lanes, int i) {
  if constexpr (sizeof(T) == 8)
    return static_cast<const T*>(lanes)[i];
  else if constexpr (std::is_floating_point_v<T>)
    return static_cast<const T*>(lanes)[i];
  else
    return static_cast<T>(static_cast<const uint32_t*>(lanes)[i]);
}
template <typename T>
using Stored = std::conditional_t<std::is_floating_point_v<T> || sizeof(T) == 8, T, uint32_t>;
template <typename T>
const void* lanes_of(Warp& warp, Register reg) {
  return sizeof(T) == 8 ? static_cast<const void*>(warp.d(reg)) : warp.r(reg);
}

template <typename To, typename From>
void convert(Warp& warp, const Op& op) {
  const void* const from = lanes_of<From>(warp, op.a);
  put<Stored<To>>(warp, op.d, [&](int i) { return static_cast<Stored<To>>(static_cast<To>(value_in<From>(from, i))); });
}

enum Rounding { kNearest, kZero, kDown, kUp };
template <int kRounding>
float rounded(float x) {
  return kRounding == kNearest ? std::nearbyint(x)
         : kRounding == kZero  ? std::trunc(x)
         : kRounding == kDown  ? std::floor(x)
                               : std::ceil(x);
}
/// NaN gives 0, what does not fit the nearest that does.
template <typename To, int kRounding>
void float_to_integer(Warp& warp, const Op& op) {
  const float* const from = warp.lanes<float>(op.a);
  put<To>(warp, op.d, [&](int i) -> To {
    using Limits = std::numeric_limits<To>;
    const float x = rounded<kRounding>(from[i]);
    if (x != x) return 0;
    if (x >= static_cast<float>(Limits::max())) return Limits::max();
    return x <= static_cast<float>(Limits::min()) ? Limits::min() : static_cast<To>(x);
  });
}
template <int kRounding>
void float_to_whole(Warp& warp, const Op& op) {
  const float* const from = warp.lanes<float>(op.a);
  put<float>(warp, op.d, [&](int i) { return rounded<kRounding>(from[i]); });
}

void bfloat16_to_float(Warp& warp, const Op& op) {
  const uint32_t* const from = warp.r(op.a);
  put<float>(warp, op.d, [&](int i) { return from_bfloat16(from[i] & 0xffff); });
}
void float_to_bfloat16(Warp& warp, const Op& op) {
  const float* const from = warp.lanes<float>(op.a);
  put<uint32_t>(warp, op.d, [&](int i) { return to_bfloat16(from[i]); });
}
void float16_to_float(Warp& warp, const Op& op) {
  const uint32_t* const from = warp.r(op.a);
  put<float>(warp, op.d, [&](int i) { return from_float16(from[i] & 0xffff); });
}
template <uint32_t round(float)>
void floats_to_pair(Warp& warp, const Op& op) {  // a is the upper half
  const float *const high = warp.lanes<float>(op.a), *const low = warp.lanes<float>(op.b);
  put<uint32_t>(warp, op.d, [&](int i) { return round(high[i]) << 16 | round(low[i]); });
}

void pack_16(Warp& warp, const Op& op) {
  const uint32_t *const low = warp.r(op.from[0]), *const high = warp.r(op.from[1]);
  put<uint32_t>(warp, op.d, [&](int i) { return (low[i] & 0xffff) | high[i] << 16; });
}
void pack_32(Warp& warp, const Op& op) {
  const uint32_t *const low = warp.r(op.from[0]), *const high = warp.r(op.from[1]);
  put<uint64_t>(warp, op.d, [&](int i) { return low[i] | uint64_t{high[i]} << 32; });
}
void unpack_16(Warp& warp, const Op& op) {
  uint32_t both[32];
  std::memcpy(both, warp.r(op.a), sizeof both);
  put<uint32_t>(warp, op.to[0], [&](int i) { return both[i] & 0xffff; });
  put<uint32_t>(warp, op.to[1], [&](int i) { return both[i] >> 16; });
}
void unpack_32(Warp& warp, const Op& op) {
  const uint64_t* const both = warp.d(op.a);
  put<uint32_t>(warp, op.to[0], [&](int i) { return static_cast<uint32_t>(both[i]); });
  put<uint32_t>(warp, op.to[1], [&](int i) { return static_cast<uint32_t>(both[i] >> 32); });
}

void parameter_address(Warp& warp, const Op& op) {
  const auto address = reinterpret_cast<uint64_t>(warp.block->parameters) + static_cast<uint64_t>(op.offset);
  put<uint64_t>(warp, op.d, [&](int) { return address; });
}
void same_address(Warp& warp, const Op& op) {
  const uint64_t* const a = warp.d(op.a);
  put<uint64_t>(warp, op.d, [&](int i) { return a[i]; });
}
void generic_to_shared(Warp& warp, const Op& op) {
  const uint64_t* const a = warp.d(op.a);
  put<uint64_t>(warp, op.d, [&](int i) { return a[i] - kSharedWindow; });
}
void shared_to_generic(Warp& warp, const Op& op) {
  const uint64_t* const a = warp.d(op.a);
  put<uint64_t>(warp, op.d, [&](int i) { return a[i] + kSharedWindow; });
}

constexpr auto equal = [](auto x, auto y) { return x == y; };
constexpr auto unequal = [](auto x, auto y) { return x < y || x > y; };  // of numbers: false with a NaN
constexpr auto less = [](auto x, auto y) { return x < y; };
constexpr auto at_most = [](auto x, auto y) { return x <= y; };
constexpr auto more = [](auto x, auto y) { return x > y; };
constexpr auto at_least = [](auto x, auto y) { return x >= y; };

/// kUnordered: true with a NaN.
template <typename T, auto kF, bool kUnordered>
void compare(Warp& warp, const Op& op) {
  const void *const a = lanes_of<T>(warp, op.a), *const b = lanes_of<T>(warp, op.b);
  uint32_t mask = 0;
  for (int i = 0; i < 32; ++i) {
    const T x = value_in<T>(a, i), y = value_in<T>(b, i);
    const bool is_unordered = kUnordered && (x != x || y != y);
    mask |= static_cast<uint32_t>(is_unordered || kF(x, y)) << i;
  }
  if (op.c) {
    const uint32_t other = op.n ? ~warp.p(op.c) : warp.p(op.c);
    mask = op.m == 0 ? mask & other : op.m == 1 ? mask | other : mask ^ other;
  }
  put_predicate(warp, op.d, mask);
}

template <typename T>
std::map<std::string, Function> comparisons() {
  std::map<std::string, Function> all = {{"eq", compare<T, equal, false>}, {"ne", compare<T, unequal, false>},
                                         {"lt", compare<T, less, false>},  {"le", compare<T, at_most, false>},
                                         {"gt", compare<T, more, false>},  {"ge", compare<T, at_least, false>}};
  if constexpr (std::is_floating_point_v<T>) {
    all["equ"] = compare<T, equal, true>, all["neu"] = compare<T, unequal, true>;
    all["ltu"] = compare<T, less, true>, all["leu"] = compare<T, at_most, true>;
    all["gtu"] = compare<T, more, true>, all["geu"] = compare<T, at_least, true>;
  }
  if constexpr (std::is_unsigned_v<T>) {
    all["lo"] = all["lt"], all["ls"] = all["le"], all["hi"] = all["gt"], all["hs"] = all["ge"];
  }
  return all;
}

Width width_of(const std::string& type) { return type.substr(1) == "64" ? Width::k64 : Width::k32; }

/// setp.lt.s32 p, a, b; setp.lt.and.s32 p, a, b, q
bool decode_compare(Decoder& decoder, const Instruction& instruction, Op& op) {
  static const std::map<std::string, std::map<std::string, Function>> kByType = {
      {"s16", comparisons<int16_t>()}, {"u16", comparisons<uint16_t>()}, {"b16", comparisons<uint16_t>()},
      {"s32", comparisons<int32_t>()}, {"u32", comparisons<uint32_t>()}, {"b32", comparisons<uint32_t>()},
      {"s64", comparisons<int64_t>()}, {"u64", comparisons<uint64_t>()}, {"b64", comparisons<uint64_t>()},
      {"f32", comparisons<float>()},   {"f64", comparisons<double>()}};
  static const std::map<std::string, int32_t> kJoined = {{"and", 0}, {"or", 1}, {"xor", 2}};
  const std::vector<std::string>& part = instruction.part;
  const bool is_joined = part.size() == 4;
  const auto by_type = kByType.find(part.back());
  if ((part.size() != 3 && !is_joined) || by_type == kByType.end()) return false;
  const auto found = by_type->second.find(part[1]);
  if (found == by_type->second.end() || instruction.operand.size() != (is_joined ? 4 : 3)) return false;
  const Width width = width_of(part.back());
  op.run = found->second;
  op.d = decoder.write(op, instruction.operand[0], Width::kPredicate);
  op.a = decoder.read(op, instruction.operand[1], width);
  op.b = decoder.read(op, instruction.operand[2], width);
  if (!is_joined) return true;
  const auto joined = kJoined.find(part[2]);
  if (joined == kJoined.end()) return false;
  op.m = joined->second;
  const std::string& other = instruction.operand[3];
  op.n = other[0] == '!';
  op.c = decoder.read(op, op.n ? other.substr(1) : other, Width::kPredicate);
  return true;
}

template <typename To>
void add_float_conversions(std::map<std::string, Function>& table, const std::string& type) {
  table["cvt.rni." + type + ".f32"] = float_to_integer<To, kNearest>;
  table["cvt.rzi." + type + ".f32"] = float_to_integer<To, kZero>;
  table["cvt.rmi." + type + ".f32"] = float_to_integer<To, kDown>;
  table["cvt.rpi." + type + ".f32"] = float_to_integer<To, kUp>;
}

std::map<std::string, Function> conversion_table() {
  std::map<std::string, Function> table = {{"cvt.u64.u32", convert<uint64_t, uint32_t>},
                                           {"cvt.s64.s32", convert<int64_t, int32_t>},
                                           {"cvt.u64.s32", convert<uint64_t, int32_t>},
                                           {"cvt.s64.u32", convert<int64_t, uint32_t>},
                                           {"cvt.u32.u64", convert<uint32_t, uint64_t>},
                                           {"cvt.s32.s64", convert<int32_t, int64_t>},
                                           {"cvt.u32.s64", convert<uint32_t, int64_t>},
                                           {"cvt.s32.u64", convert<int32_t, uint64_t>},
                                           {"cvt.u32.u16", convert<uint32_t, uint16_t>},
                                           {"cvt.s32.s16", convert<int32_t, int16_t>},
                                           {"cvt.u16.u32", convert<uint16_t, uint32_t>},
                                           {"cvt.s16.s32", convert<uint16_t, uint32_t>},
                                           {"cvt.u64.u16", convert<uint64_t, uint16_t>},
                                           {"cvt.u16.u64", convert<uint16_t, uint64_t>},
                                           {"cvt.rn.f32.s32", convert<float, int32_t>},
                                           {"cvt.rn.f32.u32", convert<float, uint32_t>},
                                           {"cvt.rn.f32.s64", convert<float, int64_t>},
                                           {"cvt.rn.f32.u64", convert<float, uint64_t>},
                                           {"cvt.rn.f64.s32", convert<double, int32_t>},
                                           {"cvt.rn.f32.f64", convert<float, double>},
                                           {"cvt.f64.f32", convert<double, float>},
                                           {"cvt.f32.bf16", bfloat16_to_float},
                                           {"cvt.rn.bf16.f32", float_to_bfloat16},
                                           {"cvt.f32.f16", float16_to_float},
                                           {"cvt.rni.f32.f32", float_to_whole<kNearest>},
                                           {"cvt.rzi.f32.f32", float_to_whole<kZero>},
                                           {"cvt.rmi.f32.f32", float_to_whole<kDown>},
                                           {"cvt.rpi.f32.f32", float_to_whole<kUp>},
                                           {"cvta.to.global.u64", same_address},
                                           {"cvta.global.u64", same_address},
                                           {"cvta.param.u64", same_address},
                                           {"cvta.to.shared.u64", generic_to_shared},
                                           {"cvta.shared.u64", shared_to_generic}};
  add_float_conversions<int32_t>(table, "s32"), add_float_conversions<uint32_t>(table, "u32");
  add_float_conversions<int64_t>(table, "s64"), add_float_conversions<uint64_t>(table, "u64");
  return table;
}

/// mov.b32 {lo, hi}, r; mov.b32 r, {lo, hi}; mov.b64 of two 32-bit halves; mov.b64 rd, parameter
bool decode_move(Decoder& decoder, const Instruction& instruction, Op& op) {
  const bool is_wide = instruction.name == "mov.b64" || instruction.name == "mov.u64";
  if ((!is_wide && instruction.name != "mov.b32") || instruction.operand.size() != 2) return false;
  const std::string &to = instruction.operand[0], &from = instruction.operand[1];
  const Width width = is_wide ? Width::k64 : Width::k32;
  if (to[0] == '{') {
    op.to = decoder.write_list(op, to, Width::k32), op.a = decoder.read(op, from, width);
    op.run = is_wide ? unpack_32 : unpack_16;
    return op.to.size() == 2;
  }
  if (from[0] == '{') {
    op.from = decoder.read_list(op, from, Width::k32), op.d = decoder.write(op, to, width);
    op.run = is_wide ? pack_32 : pack_16;
    return op.from.size() == 2;
  }
  const Variable* const variable = decoder.variable(from);
  if (!is_wide || variable == nullptr || variable->space != Variable::kParameter) return false;
  op.d = decoder.write(op, to, Width::k64), op.offset = variable->at, op.run = parameter_address;
  return true;
}

}  // namespace

bool decode_convert(Decoder& decoder, const Instruction& instruction, Op& op) {
  static const auto kTable = conversion_table();
  if (instruction.part[0] == "setp") return decode_compare(decoder, instruction, op);
  if (instruction.part[0] == "mov") return decode_move(decoder, instruction, op);
  const bool is_bfloat16 = instruction.name == "cvt.rn.bf16x2.f32";
  if ((is_bfloat16 || instruction.name == "cvt.rn.f16x2.f32") && instruction.operand.size() == 3) {
    op.run = is_bfloat16 ? floats_to_pair<to_bfloat16> : floats_to_pair<to_float16>;
    op.d = decoder.write(op, instruction.operand[0], Width::k32);
    op.a = decoder.read(op, instruction.operand[1], Width::k32);
    op.b = decoder.read(op, instruction.operand[2], Width::k32);
    return true;
  }
  const auto found = kTable.find(instruction.name);
  if (found == kTable.end() || instruction.operand.size() != 2) return false;
  const std::vector<std::string>& part = instruction.part;
  const bool is_address = part[0] == "cvta";
  op.run = found->second;
  op.d = decoder.write(op, instruction.operand[0], is_address ? Width::k64 : width_of(part[part.size() - 2]));
  op.a = decoder.read(op, instruction.operand[1], is_address ? Width::k64 : width_of(part.back()));
  return true;
}

}  // namespace fpdist::ptx
