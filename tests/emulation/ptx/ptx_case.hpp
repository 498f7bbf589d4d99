#pragma once
// Tests of the PTX machine: kernels of a few lines, launched on vectors.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/emulation/ptx/machine.hpp"

namespace fpdist::ptx {

/// A kernel `k` with parameters p0, p1, … of 64 bits and these registers: %r 32 bits, %f float32, %rd 64 bits, %rs 16
/// bits, %p predicates.
inline std::string kernel_text(const std::string& body, int parameters = 1, const std::string& attributes = "") {
  std::string list;
  for (int i = 0; i < parameters; ++i) list += (i ? ",\n" : "") + (" .param .u64 p" + std::to_string(i));
  return ".version 9.0\n.target sm_90a\n.address_size 64\n.visible .entry k(\n" + list + "\n)\n" + attributes +
         "\n{\n .reg .pred %p<8>;\n .reg .b16 %rs<8>;\n .reg .b32 %r<16>;\n .reg .f32 %f<16>;\n .reg .b64 %rd<16>;\n" +
         " .loc 1 1 0\n" + body + "\n}\n.file 1 \"here.cu\"\n";
}

/// ld.param of parameter i into %rdi, for each.
inline std::string load_parameters(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += " ld.param.u64 %rd" + std::to_string(i) + ", [p" + std::to_string(i) + "];\n";
  return text;
}

inline std::vector<uint8_t> parameters_of(const std::vector<uint64_t>& values) {
  std::vector<uint8_t> bytes(values.size() * 8);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// Runs `k` of one block of `threads` and gives back what it wrote, a word a thread, at p0; %rd0 holds p0, %r0 the
/// thread, %rd1 the address of the thread's word.
inline std::vector<uint32_t> words_of(const std::string& body, uint32_t threads = 32, const Options& options = {},
                                      Counters* counters = nullptr, const std::string& attributes = "") {
  const std::string prologue =
      load_parameters(1) + " mov.u32 %r0, %tid.x;\n mul.wide.u32 %rd1, %r0, 4;\n add.s64 %rd1, %rd0, %rd1;\n";
  const Module module = parse(kernel_text(prologue + body + "\n ret;", 1, attributes));
  struct alignas(256) Line {
    uint32_t word[64];
  };
  std::vector<Line> lines((threads + 63) / 64);
  uint32_t* const out = lines[0].word;
  TestMemory memory;
  memory.add(out, threads * 4, false);
  Counters own;
  run(*module.at("k"), {.block = {threads, 1, 1}, .parameters = parameters_of({reinterpret_cast<uint64_t>(out)})},
      memory, options, counters ? *counters : own);
  return {out, out + threads};
}

/// The report that `body` leads to; "" where it runs.
template <typename Body>
std::string report_of(const Body& body) {
  try {
    body();
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}

#define FPDIST_EXPECT_REPORT(body, part) EXPECT_THAT(report_of(body), testing::HasSubstr(part))

}  // namespace fpdist::ptx
