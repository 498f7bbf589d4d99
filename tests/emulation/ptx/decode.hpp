#pragma once
// tests/emulation/ptx: from statements to instructions of the machine. A family of instructions has a decoder, which
// knows its names with every modifier spelt out: what is not known whole is refused, never guessed.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/emulation/ptx/kernel.hpp"
#include "tests/emulation/ptx/text.hpp"

namespace fpdist::ptx {

struct Instruction {
  std::string name;                  ///< "ld.global.nc.v4.u32"
  std::vector<std::string> part;     ///< of the name
  std::vector<std::string> operand;  ///< "%r1", "[%rd1+4]", "{%r1, %r2}"
};

/// What a name of the text stands for.
struct Variable {
  enum Space { kParameter, kShared, kDynamicShared };
  Space space = kShared;
  uint32_t at = 0;
};

class Decoder {
 public:
  explicit Decoder(Kernel& kernel) : kernel_(kernel) {}

  void declare(const std::string& name, Variable variable) { variable_[name] = variable; }
  void add(const Statement& statement);
  /// Branches find their labels, constants their registers.
  void finish();

  // For the families: operands, noted as read or written by `op`.
  Register read(Op& op, const std::string& operand, Width width);
  Register write(Op& op, const std::string& operand, Width width);
  std::vector<Register> read_list(Op& op, const std::string& operand, Width width);
  std::vector<Register> write_list(Op& op, const std::string& operand, Width width);
  /// "[%rd1+16]": the register, its displacement in op.offset.
  Register read_address(Op& op, const std::string& operand, Width width);
  /// "[name+8]" of a parameter: where it lies; nothing where it is no parameter.
  std::optional<uint32_t> parameter_at(const std::string& operand) const;
  const Variable* variable(const std::string& name) const;
  bool is_register(const std::string& name, Width width) const;
  void branch_to(const std::string& label);
  Register constant(Width width, uint64_t value);
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  void add_directive(const std::string& text);
  void add_instruction(const std::string& text);
  void add_registers(const std::string& text);
  void add_shared(const std::string& text);
  void note_tensor_registers();
  Register named(const std::string& name) const;
  Register fresh(Width width);
  Register special(Special which);
  std::optional<Register> value_of(const std::string& operand, Width width);

  struct Branch {
    size_t op;
    std::string label;
    std::vector<int> scope;
  };
  using Scoped = std::pair<int, std::string>;
  Kernel& kernel_;
  std::string place_, text_;
  std::vector<int> scope_{0};
  int scopes_ = 1;
  std::map<Scoped, Register> register_;
  std::map<Scoped, uint32_t> label_;
  std::map<std::string, Variable> variable_;
  std::vector<Branch> branch_;
  std::map<std::pair<Width, uint64_t>, Register> constant_;
  std::map<Special, Register> special_;
};

/// One function a family: true when the instruction is its own, and `op` is filled.
bool decode_alu(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_convert(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_memory(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_control(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_copies(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_matrix(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_mbarrier(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_tma(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_wgmma(Decoder& decoder, const Instruction& instruction, Op& op);
bool decode_warp(Decoder& decoder, const Instruction& instruction, Op& op);

/// Names become colours: registers whose lives do not touch share one. Also finds what may be read before it is
/// written.
void colour(Kernel& kernel);

}  // namespace fpdist::ptx
