#pragma once
// tests/emulation/ptx: PTX text cut into kernels and statements, each with its place in the source.

#include <string>
#include <vector>

namespace fpdist::ptx {

struct Statement {
  enum Kind { kInstruction, kDirective, kLabel, kOpen, kClose };
  Kind kind = kInstruction;
  std::string text;   ///< blanks single, no semicolon
  std::string place;  ///< file:line, and file:line of the call where it was inlined
};

struct EntryText {
  std::string name;
  std::vector<std::string> parameter;  ///< ".param .u64 name"
  std::vector<std::string> attribute;  ///< ".maxntid 512, 1, 1"
  std::vector<Statement> body;
};

struct ModuleText {
  std::vector<EntryText> entry;
  std::vector<std::string> dynamic_shared;  ///< ".extern .shared .align 16 .b8 name[]"
};

ModuleText cut(const std::string& text);

/// At `separator` outside brackets, blanks around each part gone.
std::vector<std::string> split(const std::string& text, char separator);

}  // namespace fpdist::ptx
