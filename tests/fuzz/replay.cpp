// Without libFuzzer: a target on its corpus, whole, cut and with bits flipped. Whatever it must not do ends the
// process.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "tests/support/files/scratch.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace fpdist {
namespace {

constexpr int kFlips = 300;  // of a file
constexpr size_t kCuts = 16;

/// In memory of exactly its size, so that a sanitizer sees what reads beyond it.
void run(const std::string& bytes) {
  const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
  EXPECT_EQ(LLVMFuzzerTestOneInput(exact.data(), exact.size()), 0);
}

std::vector<std::string> corpus() {
  std::vector<std::string> inputs;
  for (const std::string& name : test::names_in(FPDIST_FUZZ_CORPUS))
    inputs.push_back(test::slurp(std::string(FPDIST_FUZZ_CORPUS) + "/" + name));
  return inputs;
}

TEST(Corpus, Replays) {
  EXPECT_FALSE(corpus().empty());
  for (const std::string& bytes : corpus()) run(bytes);
}

TEST(Corpus, ReplaysCutAndWithBitsFlipped) {
  std::mt19937_64 random(1);
  for (const std::string& bytes : corpus()) {
    for (size_t part = 0; part < kCuts; ++part) run(bytes.substr(0, bytes.size() * part / kCuts));
    for (int flip = 0; flip < kFlips && !bytes.empty(); ++flip) {
      std::string flipped = bytes;
      char& there = flipped[random() % bytes.size()];
      there = static_cast<char>(there ^ (1 << random() % 8));
      run(flipped);
    }
  }
}

}  // namespace
}  // namespace fpdist
