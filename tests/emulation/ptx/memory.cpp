// Loads and stores of the plain kind.
#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

enum Space { kGlobal, kShared, kGeneric, kParameter };

bool is_shared(uint64_t address) { return (address & 0xffff'0000'0000'0000ull) == kSharedWindow; }

/// A register may be wider than what is loaded: zeros or the sign above.
template <typename T>
void set_lane(Warp& warp, Register to, int lane, T value) {
  if (to.width == Width::k64)
    warp.d(to)[lane] = static_cast<uint64_t>(value);
  else
    warp.r(to)[lane] = static_cast<uint32_t>(value);
}

template <typename T>
void load_parameter(Warp& warp, const Op& op) {
  for (size_t k = 0; k < op.to.size(); ++k) {
    T value;
    std::memcpy(&value, warp.block->parameters + op.offset + k * sizeof value, sizeof value);
    each_lane(warp.exec, [&](int lane) { set_lane(warp, op.to[k], lane, value); });
  }
}

/// Where each lane's bytes are, checked and counted. `access` is read_… or write_….
template <int kSpace, bool kWrites>
void find_bytes(Warp& warp, const Op& op, uint32_t bytes, uint8_t* (&at)[32]) {
  uint64_t global[32];
  uint32_t shared[32], in_shared = 0;
  each_lane(warp.exec, [&](int lane) {
    const bool is_wide = op.a.width == Width::k64;
    const uint64_t address = (is_wide ? warp.d(op.a)[lane] : warp.r(op.a)[lane]) + static_cast<uint64_t>(op.offset);
    if (kSpace == kShared || (kSpace == kGeneric && is_shared(address))) {
      shared[lane] = static_cast<uint32_t>(address), in_shared |= 1u << lane;
      (kWrites ? write_shared : read_shared)(warp, op, shared[lane], bytes, lane);
      at[lane] = warp.block->shared.bytes.data() + shared[lane];
    } else {
      global[lane] = address;
      (kWrites ? write_global : read_global)(warp, op, address, bytes, lane);
      at[lane] = reinterpret_cast<uint8_t*>(address);
    }
  });
  if (in_shared) count_shared(warp, shared, in_shared, bytes);
  if (kSpace != kParameter && (warp.exec & ~in_shared)) count_global(warp, global, warp.exec & ~in_shared, bytes);
}

template <typename T, int kSpace>
void load(Warp& warp, const Op& op) {
  uint8_t* from[32];
  find_bytes<kSpace, false>(warp, op, static_cast<uint32_t>(sizeof(T) * op.to.size()), from);
  for (size_t k = 0; k < op.to.size(); ++k)
    each_lane(warp.exec, [&](int lane) {
      T value;
      std::memcpy(&value, from[lane] + k * sizeof value, sizeof value);
      set_lane(warp, op.to[k], lane, value);
    });
}

template <typename T, int kSpace>
void store(Warp& warp, const Op& op) {
  uint8_t* to[32];
  find_bytes<kSpace, true>(warp, op, static_cast<uint32_t>(sizeof(T) * op.from.size()), to);
  for (size_t k = 0; k < op.from.size(); ++k)
    each_lane(warp.exec, [&](int lane) {
      T value;
      if constexpr (sizeof(T) == 8)
        value = warp.d(op.from[k])[lane];
      else
        value = static_cast<T>(warp.r(op.from[k])[lane]);
      std::memcpy(to[lane] + k * sizeof value, &value, sizeof value);
    });
}

struct ByType {
  Function load[4], store[3], load_parameter;
  Width width;
};
template <typename T>
ByType of_type() {
  return {{load<T, kGlobal>, load<T, kShared>, load<T, kGeneric>, load<T, kParameter>},
          {store<T, kGlobal>, store<T, kShared>, store<T, kGeneric>},
          load_parameter<T>,
          sizeof(T) == 8 ? Width::k64 : Width::k32};
}

const ByType* type_named(const std::string& name) {
  static const std::map<std::string, ByType> kTypes = {
      {"u8", of_type<uint8_t>()},   {"b8", of_type<uint8_t>()},   {"s8", of_type<int8_t>()},
      {"u16", of_type<uint16_t>()}, {"b16", of_type<uint16_t>()}, {"s16", of_type<int16_t>()},
      {"u32", of_type<uint32_t>()}, {"b32", of_type<uint32_t>()}, {"s32", of_type<int32_t>()},
      {"f32", of_type<uint32_t>()}, {"u64", of_type<uint64_t>()}, {"b64", of_type<uint64_t>()},
      {"s64", of_type<int64_t>()},  {"f64", of_type<uint64_t>()}};
  const auto found = kTypes.find(name);
  return found == kTypes.end() ? nullptr : &found->second;
}

/// What may stand between ld or st and the type: a space, how it is cached, a vector's length.
struct Modifiers {
  std::string space;
  size_t length = 1;
};
std::optional<Modifiers> modifiers_of(const Instruction& instruction) {
  static const std::map<std::string, size_t> kLength = {{"v2", 2}, {"v4", 4}};
  static const std::map<std::string, bool> kCached = {{"nc", true}, {"wb", true}, {"ca", true},
                                                      {"cg", true}, {"cs", true}, {"L1::no_allocate", true}};
  static const std::map<std::string, std::string> kSpace = {
      {"global", "global"}, {"shared", "shared"}, {"shared::cta", "shared"}, {"param", "param"}};
  Modifiers result;
  for (size_t i = 1; i + 1 < instruction.part.size(); ++i) {
    const std::string& part = instruction.part[i];
    if (const auto space = kSpace.find(part); space != kSpace.end() && i == 1)
      result.space = space->second;
    else if (const auto length = kLength.find(part); length != kLength.end())
      result.length = length->second;
    else if (!kCached.contains(part))
      return {};
  }
  return result;
}

int space_number(const std::string& space) {
  return space == "global" ? kGlobal : space == "shared" ? kShared : space == "param" ? kParameter : kGeneric;
}

/// Shared addresses come in 32 and in 64 bits.
Width address_width(const Decoder& decoder, const std::string& operand, int space) {
  const std::string name = operand.substr(1, operand.find_first_of("+]") - 1);
  return space == kShared && !decoder.is_register(name, Width::k64) ? Width::k32 : Width::k64;
}

}  // namespace

bool decode_memory(Decoder& decoder, const Instruction& instruction, Op& op) {
  const bool is_load = instruction.part[0] == "ld";
  if ((!is_load && instruction.part[0] != "st") || instruction.operand.size() != 2) return false;
  const ByType* const type = type_named(instruction.part.back());
  const auto modifiers = modifiers_of(instruction);
  if (type == nullptr || !modifiers) return false;
  const std::string &address = instruction.operand[is_load ? 1 : 0], &value = instruction.operand[is_load ? 0 : 1];
  if (is_load) {
    const std::string first = value[0] == '{' ? split(value.substr(1, value.size() - 2), ',')[0] : value;
    op.to = decoder.write_list(op, value, decoder.is_register(first, Width::k64) ? Width::k64 : type->width);
  } else {
    op.from = decoder.read_list(op, value, type->width);
  }
  if ((is_load ? op.to : op.from).size() != modifiers->length) decoder.refuse("has another number of values");
  if (modifiers->space == "param") {
    if (!is_load) return false;
    if (const auto at = decoder.parameter_at(address)) {
      op.offset = *at, op.run = type->load_parameter;
      return true;
    }
  }
  const int space = space_number(modifiers->space);
  op.a = decoder.read_address(op, address, address_width(decoder, address, space));
  op.run = is_load ? type->load[space] : type->store[space];
  return true;
}

}  // namespace fpdist::ptx
