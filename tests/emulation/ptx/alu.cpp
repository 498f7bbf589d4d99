// Arithmetic, logic, comparisons, selections, moves: a table of whole names. A signature has a letter an operand, the
// result first: r 32 bits, d 64 bits, p a predicate. What the results are is PTX ISA 9.0's; approximations are libm's.
#include <cmath>
#include <limits>
#include <type_traits>

#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

template <typename T, auto kF>
void unary(Warp& warp, const Op& op) {
  const T* const a = warp.lanes<T>(op.a);
  put<T>(warp, op.d, [&](int i) -> T { return kF(a[i]); });
}
template <typename T, auto kF>
void binary(Warp& warp, const Op& op) {
  const T *const a = warp.lanes<T>(op.a), *const b = warp.lanes<T>(op.b);
  put<T>(warp, op.d, [&](int i) -> T { return kF(a[i], b[i]); });
}
template <typename T, auto kF>
void ternary(Warp& warp, const Op& op) {
  const T *const a = warp.lanes<T>(op.a), *const b = warp.lanes<T>(op.b), *const c = warp.lanes<T>(op.c);
  put<T>(warp, op.d, [&](int i) -> T { return kF(a[i], b[i], c[i]); });
}

constexpr auto add = [](auto x, auto y) { return x + y; };
constexpr auto sub = [](auto x, auto y) { return x - y; };
constexpr auto mul = [](auto x, auto y) { return x * y; };
constexpr auto div = [](auto x, auto y) { return x / y; };
constexpr auto divide_whole = [](auto x, auto y) {
  return y == 0 ? static_cast<decltype(x)>(-1) : static_cast<decltype(x)>(x / y);
};
constexpr auto remainder_of = [](auto x, auto y) { return y == 0 ? x : static_cast<decltype(x)>(x % y); };
constexpr auto bit_and = [](auto x, auto y) { return x & y; };
constexpr auto bit_or = [](auto x, auto y) { return x | y; };
constexpr auto bit_xor = [](auto x, auto y) { return x ^ y; };
constexpr auto least = [](auto x, auto y) { return x < y ? x : y; };
constexpr auto most = [](auto x, auto y) { return x > y ? x : y; };
// A number wins over a NaN.
constexpr auto least_number = [](auto x, auto y) { return x != x ? y : y != y ? x : x < y ? x : y; };
constexpr auto most_number = [](auto x, auto y) { return x != x ? y : y != y ? x : x > y ? x : y; };
constexpr auto multiply_add = [](auto x, auto y, auto z) { return x * y + z; };
constexpr auto fused = [](auto x, auto y, auto z) { return std::fma(x, y, z); };
constexpr auto same = [](auto x) { return x; };
constexpr auto invert = [](auto x) { return ~x; };
constexpr auto negate = [](auto x) { return -x; };
constexpr auto absolute = [](auto x) { return x < 0 ? -x : x; };
constexpr auto clear_sign = [](auto x) { return std::fabs(x); };
constexpr auto exp2_of = [](auto x) { return std::exp2(x); };
/// Of a subnormal x it is 1 either way.
constexpr auto exp2_flushed = [](auto x) {
  const auto power = std::exp2(x);
  return power < std::numeric_limits<decltype(x)>::min() ? decltype(x){} : power;
};
constexpr auto log2_of = [](auto x) { return std::log2(x); };
/// .ftz: what is too small for a normal number is a zero.
constexpr auto flushed = [](float x) {
  return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
};
constexpr auto log2_flushed = [](float x) { return std::log2(flushed(x)); };
constexpr auto reciprocal = [](auto x) { return 1 / x; };
constexpr auto root = [](auto x) { return std::sqrt(x); };
constexpr auto inverse_root = [](auto x) { return 1 / std::sqrt(x); };
/// The quotient is 0 where the divisor is beyond 2^126, NaN if the dividend is infinite too.
constexpr auto divide_fast = [](float x, float y) {
  if (std::fabs(y) <= 0x1p126f || y != y) return x / y;
  return std::isinf(x) ? std::numeric_limits<float>::quiet_NaN() : std::copysign(0.0f, x) * std::copysign(1.0f, y);
};

template <typename T>
void shift_left(Warp& warp, const Op& op) {
  const T* const a = warp.lanes<T>(op.a);
  const uint32_t* const by = warp.r(op.b);
  put<T>(warp, op.d, [&](int i) -> T { return by[i] >= sizeof(T) * 8 ? 0 : a[i] << by[i]; });
}
template <typename T>
void shift_right(Warp& warp, const Op& op) {  // too far: 0, or the sign
  const T* const a = warp.lanes<T>(op.a);
  const uint32_t* const by = warp.r(op.b);
  put<T>(warp, op.d, [&](int i) -> T {
    if (by[i] < sizeof(T) * 8) return a[i] >> by[i];
    return std::is_signed_v<T> && a[i] < 0 ? static_cast<T>(-1) : T{0};
  });
}

template <typename T, typename Wide>
void multiply_high(Warp& warp, const Op& op) {
  const T *const a = warp.lanes<T>(op.a), *const b = warp.lanes<T>(op.b);
  put<T>(warp, op.d, [&](int i) { return static_cast<T>(Wide{a[i]} * Wide{b[i]} >> 8 * sizeof(T)); });
}
template <typename T, typename Wide>
void multiply_wide(Warp& warp, const Op& op) {
  const T *const a = warp.lanes<T>(op.a), *const b = warp.lanes<T>(op.b);
  put<Wide>(warp, op.d, [&](int i) { return Wide{a[i]} * Wide{b[i]}; });
}
template <typename T, typename Wide>
void multiply_add_wide(Warp& warp, const Op& op) {
  const T *const a = warp.lanes<T>(op.a), *const b = warp.lanes<T>(op.b);
  const Wide* const c = warp.lanes<Wide>(op.c);
  put<Wide>(warp, op.d, [&](int i) { return Wide{a[i]} * Wide{b[i]} + c[i]; });
}

constexpr auto bit_insert = [](uint32_t a, uint32_t b, uint32_t at, uint32_t count) {
  at &= 255, count &= 255;
  const uint32_t mask = count >= 32 ? ~0u : (1u << count) - 1;
  return at >= 32 ? b : (b & ~(mask << at)) | ((a & mask) << at);
};
void insert_bits(Warp& warp, const Op& op) {
  const uint32_t *const a = warp.r(op.a), *const b = warp.r(op.b), *const at = warp.r(op.c), *const n = warp.r(op.e);
  put<uint32_t>(warp, op.d, [&](int i) { return bit_insert(a[i], b[i], at[i], n[i]); });
}
constexpr auto extract_bits = [](uint32_t a, uint32_t at, uint32_t count) {
  at &= 255, count &= 255;
  return at >= 32 ? 0 : a >> at & (count >= 32 ? ~0u : (1u << count) - 1);
};
constexpr auto permute_bytes = [](uint32_t a, uint32_t b, uint32_t selection) {
  const uint64_t both = a | uint64_t{b} << 32;
  uint32_t result = 0;
  for (int k = 0; k < 4; ++k) {
    const uint32_t which = selection >> 4 * k & 15;
    uint32_t byte = both >> 8 * (which & 7) & 255;
    if (which & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * k;
  }
  return result;
};
constexpr auto count_ones = [](uint32_t x) { return static_cast<uint32_t>(std::popcount(x)); };
constexpr auto count_zeros = [](uint32_t x) { return static_cast<uint32_t>(std::countl_zero(x)); };

template <auto kF>
void predicate_binary(Warp& warp, const Op& op) {
  put_predicate(warp, op.d, kF(warp.p(op.a), warp.p(op.b)));
}
void predicate_not(Warp& warp, const Op& op) { put_predicate(warp, op.d, ~warp.p(op.a)); }
void predicate_move(Warp& warp, const Op& op) { put_predicate(warp, op.d, warp.p(op.a)); }

template <typename T>
void select(Warp& warp, const Op& op) {
  const T *const a = warp.lanes<T>(op.a), *const b = warp.lanes<T>(op.b);
  const uint32_t chosen = warp.p(op.c);
  put<T>(warp, op.d, [&](int i) { return chosen >> i & 1 ? a[i] : b[i]; });
}

using Entry = std::pair<Function, const char*>;

/// Names with a type, for 32 and 64 bits.
template <typename T>
void add_integer(std::map<std::string, Entry>& table, const std::string& type) {
  const bool is_wide = sizeof(T) == 8;
  const char *const two = is_wide ? "dd" : "rr", *const three = is_wide ? "ddd" : "rrr";
  table["add." + type] = {binary<T, add>, three};
  table["sub." + type] = {binary<T, sub>, three};
  table["mul.lo." + type] = {binary<T, mul>, three};
  table["mad.lo." + type] = {ternary<T, multiply_add>, is_wide ? "dddd" : "rrrr"};
  table["div." + type] = {binary<T, divide_whole>, three};
  table["rem." + type] = {binary<T, remainder_of>, three};
  table["min." + type] = {binary<T, least>, three};
  table["max." + type] = {binary<T, most>, three};
  table["shr." + type] = {shift_right<T>, is_wide ? "ddr" : "rrr"};
  table["mov." + type] = {unary<T, same>, two};
  table["selp." + type] = {select<T>, is_wide ? "dddp" : "rrrp"};
  if (std::is_signed_v<T>) table["neg." + type] = {unary<T, negate>, two};
  if (std::is_signed_v<T>) table["abs." + type] = {unary<T, absolute>, two};
}
template <typename T>
void add_bits(std::map<std::string, Entry>& table, const std::string& type) {
  const bool is_wide = sizeof(T) == 8;
  const char *const two = is_wide ? "dd" : "rr", *const three = is_wide ? "ddd" : "rrr";
  table["and." + type] = {binary<T, bit_and>, three};
  table["or." + type] = {binary<T, bit_or>, three};
  table["xor." + type] = {binary<T, bit_xor>, three};
  table["not." + type] = {unary<T, invert>, two};
  table["mov." + type] = {unary<T, same>, two};
  table["shl." + type] = {shift_left<T>, is_wide ? "ddr" : "rrr"};
  table["shr." + type] = {shift_right<T>, is_wide ? "ddr" : "rrr"};
  table["selp." + type] = {select<T>, is_wide ? "dddp" : "rrrp"};
}

template <typename T>
void add_float(std::map<std::string, Entry>& table, const std::string& type) {
  const bool is_wide = sizeof(T) == 8;
  const char *const two = is_wide ? "dd" : "rr", *const three = is_wide ? "ddd" : "rrr";
  for (const char* const round : {".", ".rn."}) {
    table["add" + (round + type)] = {binary<T, add>, three};
    table["sub" + (round + type)] = {binary<T, sub>, three};
    table["mul" + (round + type)] = {binary<T, mul>, three};
  }
  table["fma.rn." + type] = {ternary<T, fused>, is_wide ? "dddd" : "rrrr"};
  table["div.rn." + type] = {binary<T, div>, three};
  table["rcp.rn." + type] = {unary<T, reciprocal>, two};
  table["sqrt.rn." + type] = {unary<T, root>, two};
  table["min." + type] = {binary<T, least_number>, three};
  table["max." + type] = {binary<T, most_number>, three};
  table["neg." + type] = {unary<T, negate>, two};
  table["abs." + type] = {unary<T, clear_sign>, two};
  table["mov." + type] = {unary<T, same>, two};
  table["selp." + type] = {select<T>, is_wide ? "dddp" : "rrrp"};
}

std::map<std::string, Entry> make_table() {
  std::map<std::string, Entry> table;
  add_integer<int32_t>(table, "s32"), add_integer<uint32_t>(table, "u32");
  add_integer<int64_t>(table, "s64"), add_integer<uint64_t>(table, "u64");
  add_bits<uint32_t>(table, "b32"), add_bits<uint64_t>(table, "b64");
  add_float<float>(table, "f32"), add_float<double>(table, "f64");
  // Only the lower half of such a register is looked at, so these may leave anything in the upper one.
  for (const char* const type : {"b16", "u16", "s16"})
    table["mov." + std::string(type)] = {unary<uint32_t, same>, "rr"};
  table["mul.wide.s32"] = {multiply_wide<int32_t, int64_t>, "drr"};
  table["mul.wide.u32"] = {multiply_wide<uint32_t, uint64_t>, "drr"};
  table["mad.wide.s32"] = {multiply_add_wide<int32_t, int64_t>, "drrd"};
  table["mad.wide.u32"] = {multiply_add_wide<uint32_t, uint64_t>, "drrd"};
  table["mul.hi.s32"] = {multiply_high<int32_t, int64_t>, "rrr"};
  table["mul.hi.u32"] = {multiply_high<uint32_t, uint64_t>, "rrr"};
  table["div.approx.f32"] = {binary<float, divide_fast>, "rrr"};
  table["ex2.approx.f32"] = {unary<float, exp2_of>, "rr"};
  table["lg2.approx.f32"] = {unary<float, log2_of>, "rr"};
  table["ex2.approx.ftz.f32"] = {unary<float, exp2_flushed>, "rr"};
  table["lg2.approx.ftz.f32"] = {unary<float, log2_flushed>, "rr"};
  table["rcp.approx.f32"] = {unary<float, reciprocal>, "rr"};
  table["sqrt.approx.f32"] = {unary<float, root>, "rr"};
  table["rsqrt.approx.f32"] = {unary<float, inverse_root>, "rr"};
  table["bfi.b32"] = {insert_bits, "rrrrr"};
  table["bfe.u32"] = {ternary<uint32_t, extract_bits>, "rrrr"};
  table["prmt.b32"] = {ternary<uint32_t, permute_bytes>, "rrrr"};
  table["popc.b32"] = {unary<uint32_t, count_ones>, "rr"};
  table["clz.b32"] = {unary<uint32_t, count_zeros>, "rr"};
  table["and.pred"] = {predicate_binary<bit_and>, "ppp"};
  table["or.pred"] = {predicate_binary<bit_or>, "ppp"};
  table["xor.pred"] = {predicate_binary<bit_xor>, "ppp"};
  table["not.pred"] = {predicate_not, "pp"};
  table["mov.pred"] = {predicate_move, "pp"};
  return table;
}

}  // namespace

bool decode_alu(Decoder& decoder, const Instruction& instruction, Op& op) {
  static const auto kTable = make_table();
  const auto found = kTable.find(instruction.name);
  if (found == kTable.end()) return false;
  // Packs and addresses of parameters have the same names; they are decode_convert's.
  if (instruction.part[0] == "mov" && (instruction.operand[0][0] == '{' || instruction.operand[1][0] == '{'))
    return false;
  if (const Variable* const variable = decoder.variable(instruction.operand[1]);
      variable != nullptr && variable->space == Variable::kParameter)
    return false;
  const std::string signature = found->second.second;
  if (signature.size() != instruction.operand.size()) decoder.refuse("has another number of operands");
  op.run = found->second.first;
  Register* const place[] = {&op.d, &op.a, &op.b, &op.c, &op.e};
  for (size_t i = 0; i < signature.size(); ++i) {
    const Width width = signature[i] == 'r' ? Width::k32 : signature[i] == 'd' ? Width::k64 : Width::kPredicate;
    *place[i] =
        i == 0 ? decoder.write(op, instruction.operand[i], width) : decoder.read(op, instruction.operand[i], width);
  }
  return true;
}

}  // namespace fpdist::ptx
