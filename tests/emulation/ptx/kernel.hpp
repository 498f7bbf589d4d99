#pragma once
// tests/emulation/ptx: a machine that runs the PTX which nvcc emits for our kernels, a warp of 32 lanes at a time, on
// the CPU, with the checks that no GPU makes. This header: a kernel as the machine holds it.
//
// A register is 32 lanes of 32 or of 64 bits, a predicate one mask; 16-bit registers live in 32-bit ones. Immediates,
// %tid and the like are registers too, filled when a block starts: an instruction knows registers only.

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace fpdist::ptx {

/// What the machine refuses, or found wrong in a kernel: which kernel, block, warp, lane, source line, instruction.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Width : uint8_t { k32, k64, kPredicate };
constexpr size_t kWidths = 3;

/// A register: its width and its number among those of that width.
struct Register {
  Width width = Width::k32;
  uint32_t number = kNone;
  static constexpr uint32_t kNone = ~0u;
  explicit operator bool() const { return number != kNone; }
  auto operator<=>(const Register&) const = default;
};

struct Warp;
struct Op;
using Function = void (*)(Warp&, const Op&);

/// How control goes on after an instruction.
enum class Flow : uint8_t { kNext, kBranch, kExit };

/// One instruction. The machine runs `run` for the lanes whose `guard` holds.
struct Op {
  Function run = nullptr;
  Register guard;
  bool is_guard_negated = false;
  Flow flow = Flow::kNext;
  Register d, d2, a, b, c, e;                      ///< as the instruction's file says
  std::vector<Register> to, from, from_b, from_c;  ///< {…} operands
  bool is_tensor = false;                          ///< of wgmma's family
  bool writes_tensor_registers = false;            ///< those that a wgmma of the kernel names
  int64_t offset = 0;                              ///< of an address
  int32_t n = 0, m = 0;                            ///< constants of the instruction
  uint32_t target = 0;                             ///< of a branch: index of an Op
  std::vector<Register> reads, writes;             ///< by the names that PTX gives, whatever the colours
  std::string text, place;                         ///< the instruction; file:line of the source
};

struct Parameter {
  uint32_t offset = 0, bytes = 0;
};

/// Values that registers have when a block starts.
enum class Special : uint8_t {
  kTidX,
  kTidY,
  kTidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,  // in turn
  kLaneId,
  kWarpId,
  kLaneMaskLt,
  kDynamicShared,  ///< where dynamic shared memory begins
};

struct Kernel {
  std::string name;  ///< mangled
  std::vector<Parameter> parameter;
  uint32_t parameter_bytes = 0;
  std::vector<Op> code;
  uint32_t registers[kWidths] = {1, 1, 1};  ///< of each width; number 0 takes what nobody wants
  uint32_t names[kWidths] = {1, 1, 1};      ///< before colouring
  std::vector<std::pair<Register, uint64_t>> constant;
  std::vector<std::pair<Register, Special>> special;
  uint32_t shared_end = 0;  ///< of static shared memory
  uint32_t dynamic_alignment = 16;
  bool has_wgmma = false;
  uint32_t max_threads = 0;                      ///< .maxntid; 0: not said
  std::vector<std::string> read_before_written;  ///< instructions that may read what nothing wrote
};

/// Shared memory below this belongs to the system on sm_90.
constexpr uint32_t kReservedShared = 1024;

using Module = std::map<std::string, std::shared_ptr<const Kernel>>;

/// Every kernel of a PTX text. Throws Fault for whatever the machine does not know, with its text.
Module parse(const std::string& text);

}  // namespace fpdist::ptx
