#pragma once
// Tests of our kernels without torch and without a GPU: this program takes the CUDA runtime's place, and every launch
// that a launcher makes runs at once on the PTX machine, with all of its checks.

#include <map>
#include <string>

#include "tests/emulation/ptx/machine.hpp"

namespace fpdist::test {

struct Launches {
  ptx::TestMemory memory;
  ptx::Options options;
  ptx::Counters counters;
  ptx::Module faulty;  ///< kernels that run in place of the program's own, by plain_name
};

/// The launches of one test: what is set here is used until the next call.
Launches& launches();
Launches& fresh_launches(uint64_t seed = 0);

/// A mangled name without the mark of the file that it comes from.
std::string plain_name(const std::string& mangled);

}  // namespace fpdist::test
