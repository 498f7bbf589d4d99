#include "tests/emulation/ptx/decode.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>

namespace fpdist::ptx {
namespace {

bool starts(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }

/// "12", "-1", "0x10", "0f3F800000", "0d3FF0000000000000": the bits.
std::optional<uint64_t> number_of(const std::string& text) {
  if (text.size() > 2 && text[0] == '0' && std::string("fFdD").find(text[1]) != std::string::npos)
    return std::strtoull(text.c_str() + 2, nullptr, 16);
  const bool is_negative = text.size() > 1 && text[0] == '-';
  if (!std::isdigit(static_cast<unsigned char>(text[is_negative ? 1 : 0]))) return {};
  char* end = nullptr;
  const uint64_t value =
      is_negative ? static_cast<uint64_t>(std::strtoll(text.c_str(), &end, 0)) : std::strtoull(text.c_str(), &end, 0);
  if (*end != 0 && std::string(end) != "U") return {};
  return value;
}

/// Bytes of ".u32" and the like; predicates have none.
uint32_t bytes_of(const std::string& type) {
  const size_t digit = type.find_first_of("0123456789");
  return digit == std::string::npos ? 0 : static_cast<uint32_t>(std::stoi(type.substr(digit))) / 8;
}

uint32_t aligned(uint32_t at, uint32_t to) { return (at + to - 1) / to * to; }

std::string inner(const std::string& operand) { return operand.substr(1, operand.size() - 2); }

}  // namespace

void Decoder::refuse(const std::string& why) const {
  throw Fault(kernel_.name + ": " + place_ + ": `" + text_ + "` " + why);
}

void Decoder::add(const Statement& statement) {
  place_ = statement.place, text_ = statement.text;
  switch (statement.kind) {
    case Statement::kOpen:
      scope_.push_back(scopes_++);
      break;
    case Statement::kClose:
      scope_.pop_back();
      break;
    case Statement::kLabel:
      label_[{scope_.back(), text_}] = static_cast<uint32_t>(kernel_.code.size());
      break;
    case Statement::kDirective:
      add_directive(text_);
      break;
    case Statement::kInstruction:
      add_instruction(text_);
      break;
  }
}

void Decoder::add_directive(const std::string& text) {
  if (starts(text, ".reg "))
    add_registers(text.substr(5));
  else if (starts(text, ".shared "))
    add_shared(text.substr(8));
  else if (!starts(text, ".pragma"))
    refuse("is not known to the machine");
}

void Decoder::add_registers(const std::string& text) {  // ".b32 %r<12>", ".pred P1, P2"
  const size_t blank = text.find(' ');
  const std::string type = text.substr(1, blank - 1);
  const Width width = type == "pred" ? Width::kPredicate : bytes_of(type) == 8 ? Width::k64 : Width::k32;
  if (bytes_of(type) > 8) refuse("is not known to the machine");
  for (const std::string& name : split(text.substr(blank), ',')) {
    const size_t count = name.find('<');
    if (count == std::string::npos) {
      register_[{scope_.back(), name}] = fresh(width);
      continue;
    }
    for (int i = 0; i < std::stoi(name.substr(count + 1)); ++i)
      register_[{scope_.back(), name.substr(0, count) + std::to_string(i)}] = fresh(width);
  }
}

void Decoder::add_shared(const std::string& text) {  // ".align 4 .b8 name[2048]"
  const std::vector<std::string> word = split(text, ' ');
  if (word.size() != 4 || word[0] != ".align") refuse("is not known to the machine");
  const size_t bracket = word[3].find('[');
  const uint32_t count =
      bracket == std::string::npos ? 1 : static_cast<uint32_t>(std::stoul(word[3].substr(bracket + 1)));
  const uint32_t at = aligned(kernel_.shared_end, static_cast<uint32_t>(std::stoul(word[1])));
  variable_[word[3].substr(0, bracket)] = {Variable::kShared, at};
  kernel_.shared_end = at + bytes_of(word[2]) * count;
}

void Decoder::add_instruction(const std::string& text) {
  Op op;
  op.text = text, op.place = place_;
  size_t begin = 0;
  if (text[0] == '@') {
    op.is_guard_negated = text[1] == '!';
    const size_t name = op.is_guard_negated ? 2 : 1;
    begin = text.find(' ') + 1;
    op.guard = read(op, text.substr(name, begin - 1 - name), Width::kPredicate);
  }
  Instruction instruction;
  const size_t blank = text.find(' ', begin);
  instruction.name = text.substr(begin, blank == std::string::npos ? blank : blank - begin);
  instruction.part = split(instruction.name, '.');
  if (blank != std::string::npos) instruction.operand = split(text.substr(blank), ',');
  for (const auto decode : {decode_alu, decode_convert, decode_memory, decode_control, decode_warp, decode_copies,
                            decode_matrix, decode_mbarrier, decode_tma, decode_wgmma}) {
    if (!decode(*this, instruction, op)) continue;
    kernel_.code.push_back(std::move(op));
    return;
  }
  refuse("is not known to the machine");
}

Register Decoder::fresh(Width width) { return {width, kernel_.names[static_cast<size_t>(width)]++}; }

Register Decoder::named(const std::string& name) const {
  for (size_t i = scope_.size(); i-- > 0;)
    if (const auto found = register_.find({scope_[i], name}); found != register_.end()) return found->second;
  return {};
}

const Variable* Decoder::variable(const std::string& name) const {
  const auto found = variable_.find(name);
  return found == variable_.end() ? nullptr : &found->second;
}

bool Decoder::is_register(const std::string& name, Width width) const {
  const Register found = named(name);
  return found && found.width == width;
}

Register Decoder::constant(Width width, uint64_t value) {
  if (width == Width::k32) value = static_cast<uint32_t>(value);
  const auto [at, is_new] = constant_.try_emplace({width, value});
  if (is_new) {
    at->second = fresh(width);
    kernel_.constant.push_back({at->second, value});
  }
  return at->second;
}

Register Decoder::special(Special which) {
  const auto [at, is_new] = special_.try_emplace(which);
  if (is_new) {
    at->second = fresh(Width::k32);
    kernel_.special.push_back({at->second, which});
  }
  return at->second;
}

/// A constant, a special register, or a variable's address.
std::optional<Register> Decoder::value_of(const std::string& operand, Width width) {
  static const std::map<std::string, Special> kSpecial = {
      {"%tid.x", Special::kTidX},       {"%tid.y", Special::kTidY},       {"%tid.z", Special::kTidZ},
      {"%ctaid.x", Special::kCtaidX},   {"%ctaid.y", Special::kCtaidY},   {"%ctaid.z", Special::kCtaidZ},
      {"%ntid.x", Special::kNtidX},     {"%ntid.y", Special::kNtidY},     {"%ntid.z", Special::kNtidZ},
      {"%nctaid.x", Special::kNctaidX}, {"%nctaid.y", Special::kNctaidY}, {"%nctaid.z", Special::kNctaidZ},
      {"%laneid", Special::kLaneId},    {"%warpid", Special::kWarpId},    {"%lanemask_lt", Special::kLaneMaskLt}};
  if (const auto number = number_of(operand)) return constant(width, *number);
  if (width == Width::kPredicate) return {};
  if (const auto found = kSpecial.find(operand); found != kSpecial.end()) {
    if (width != Width::k32) refuse("wants 64 bits of " + operand);
    return special(found->second);
  }
  const Variable* const place = variable(operand);
  if (place == nullptr || place->space == Variable::kParameter) return {};
  if (place->space == Variable::kShared) return constant(width, place->at);
  if (width != Width::k32) refuse("takes dynamic shared memory's address in 64 bits");
  return special(Special::kDynamicShared);
}

Register Decoder::read(Op& op, const std::string& operand, Width width) {
  if (operand == "_") return {width, 0};
  if (const Register found = named(operand)) {
    if (found.width != width) refuse("has an operand of another width: " + operand);
    op.reads.push_back(found);
    return found;
  }
  if (const auto value = value_of(operand, width)) return *value;
  refuse("has an operand that the machine does not know: " + operand);
}

Register Decoder::write(Op& op, const std::string& operand, Width width) {
  if (operand == "_") return {width, 0};
  const Register found = named(operand);
  if (!found || found.width != width) refuse("writes what is no register of its width: " + operand);
  op.writes.push_back(found);
  return found;
}

std::vector<Register> Decoder::read_list(Op& op, const std::string& operand, Width width) {
  std::vector<Register> all;
  const bool is_list = operand[0] == '{';
  for (const std::string& one : is_list ? split(inner(operand), ',') : std::vector{operand})
    all.push_back(read(op, one, width));
  return all;
}

std::vector<Register> Decoder::write_list(Op& op, const std::string& operand, Width width) {
  std::vector<Register> all;
  const bool is_list = operand[0] == '{';
  for (const std::string& one : is_list ? split(inner(operand), ',') : std::vector{operand})
    all.push_back(write(op, one, width));
  return all;
}

Register Decoder::read_address(Op& op, const std::string& operand, Width width) {
  if (operand[0] != '[') refuse("has no address where one is due: " + operand);
  const std::string address = inner(operand);
  const size_t plus = address.find('+');
  op.offset = plus == std::string::npos ? 0 : std::strtoll(address.c_str() + plus + 1, nullptr, 0);
  return read(op, address.substr(0, plus), width);
}

std::optional<uint32_t> Decoder::parameter_at(const std::string& operand) const {
  if (operand[0] != '[') return {};
  const std::string address = inner(operand);
  const size_t plus = address.find('+');
  const Variable* const found = variable(address.substr(0, plus));
  if (found == nullptr || found->space != Variable::kParameter) return {};
  return found->at + (plus == std::string::npos ? 0 : static_cast<uint32_t>(std::stoul(address.substr(plus + 1))));
}

void Decoder::branch_to(const std::string& label) { branch_.push_back({kernel_.code.size(), label, scope_}); }

void Decoder::finish() {
  for (const Branch& branch : branch_) {
    Op& op = kernel_.code[branch.op];
    place_ = op.place, text_ = op.text;
    bool is_found = false;
    for (size_t i = branch.scope.size(); i-- > 0 && !is_found;) {
      const auto found = label_.find({branch.scope[i], branch.label});
      if (is_found = found != label_.end(); is_found) op.target = found->second;
    }
    if (!is_found) refuse("goes to a label that is not there");
  }
  note_tensor_registers();
}

void Decoder::note_tensor_registers() {
  std::set<Register> named;
  for (const Op& op : kernel_.code) {
    if (!op.is_tensor) continue;
    kernel_.has_wgmma = true;
    for (const auto* const list : {&op.reads, &op.writes})
      for (const Register reg : *list)
        if (reg.width == Width::k32) named.insert(reg);  // others are descriptors and predicates, read at once
  }
  for (Op& op : kernel_.code)
    for (const Register reg : op.writes)
      op.writes_tensor_registers = op.writes_tensor_registers || (!op.is_tensor && named.contains(reg));
}

namespace {

/// ".param .align 8 .b8 name[48]", ".param .u64 name", ".param .u64 .ptr .align 1 name"
void add_parameter(const std::string& text, Kernel& kernel, Decoder& decoder) {
  const std::vector<std::string> word = split(text, ' ');
  uint32_t alignment = 0, bytes = 0, count = 1;
  for (size_t i = 1; i + 1 < word.size(); ++i) {
    if (word[i] == ".align" && bytes == 0)
      alignment = static_cast<uint32_t>(std::stoul(word[i + 1]));
    else if (word[i][0] == '.' && bytes_of(word[i]) > 0 && bytes == 0)
      bytes = bytes_of(word[i]);
  }
  if (bytes == 0) throw Fault(kernel.name + ": a parameter that the machine does not know: " + text);
  const size_t bracket = word.back().find('[');
  if (bracket != std::string::npos) count = static_cast<uint32_t>(std::stoul(word.back().substr(bracket + 1)));
  const uint32_t at = aligned(kernel.parameter_bytes, std::max(alignment, bytes));
  decoder.declare(word.back().substr(0, bracket), {Variable::kParameter, at});
  kernel.parameter.push_back({at, bytes * count});
  kernel.parameter_bytes = at + bytes * count;
}

void add_attribute(const std::string& text, Kernel& kernel) {
  if (starts(text, ".maxntid ")) {
    kernel.max_threads = 1;
    for (const std::string& size : split(text.substr(9), ','))
      kernel.max_threads *= static_cast<uint32_t>(std::stoul(size));
  } else if (!starts(text, ".minnctapersm")) {
    throw Fault(kernel.name + ": an attribute that the machine does not know: " + text);
  }
}

std::shared_ptr<const Kernel> parse_entry(const EntryText& entry, const std::vector<std::string>& dynamic_shared) {
  const auto kernel = std::make_shared<Kernel>();
  kernel->name = entry.name, kernel->shared_end = kReservedShared;
  Decoder decoder(*kernel);
  for (const std::string& text : dynamic_shared) {  // ".extern .shared .align 16 .b8 name[]"
    const std::vector<std::string> word = split(text, ' ');
    if (word.size() != 6) throw Fault("shared memory that the machine does not know: " + text);
    kernel->dynamic_alignment = std::max(kernel->dynamic_alignment, static_cast<uint32_t>(std::stoul(word[3])));
    decoder.declare(word[5].substr(0, word[5].find('[')), {Variable::kDynamicShared, 0});
  }
  for (const std::string& text : entry.parameter) add_parameter(text, *kernel, decoder);
  for (const std::string& text : entry.attribute) add_attribute(text, *kernel);
  for (const Statement& statement : entry.body) decoder.add(statement);
  decoder.finish();
  colour(*kernel);
  return kernel;
}

}  // namespace

Module parse(const std::string& text) {
  const ModuleText module = cut(text);
  Module kernels;
  for (const EntryText& entry : module.entry) kernels[entry.name] = parse_entry(entry, module.dynamic_shared);
  return kernels;
}

}  // namespace fpdist::ptx
