// make_layout's promise is 10 M tokens/s on one core; the floor here leaves room for a busy machine.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <limits>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "src/core/clock.hpp"

namespace fpdist::prefix {
namespace {

/// Groups of eight rollouts behind prompts of 100..1,500 tokens, a third of them behind one system prompt of 400;
/// completions of 20..800 tokens, every fourth beginning like the one before.
std::vector<data::Sample> realistic_mix() {
  Rng rng(5);
  const auto draw = [&](std::vector<int32_t>& out, size_t count) {
    for (size_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>(rng.below(32000)));
  };
  std::vector<int32_t> system;
  draw(system, 400);
  std::vector<data::Sample> samples;
  for (int group = 0; group < 150; ++group) {
    std::vector<int32_t> prompt;
    if (group % 3 == 0) prompt = system;
    draw(prompt, 100 + rng.below(1400));
    for (int s = 0; s < 8; ++s) {
      data::Sample sample;
      sample.token = prompt;
      if (s % 4 == 3)
        sample.token.insert(sample.token.end(),
                            samples.back().token.begin() + static_cast<std::ptrdiff_t>(prompt.size()),
                            samples.back().token.begin() + static_cast<std::ptrdiff_t>(prompt.size()) + 10);
      draw(sample.token, 20 + rng.below(780));
      sample.target = sample.token;
      std::fill_n(sample.target.begin(), prompt.size(), data::kIgnore);
      samples.push_back(sample);
    }
  }
  return samples;
}

TEST(TreeLayoutSpeed, TenMillionTokensASecond) {
  const std::vector<data::Sample> samples = realistic_mix();
  std::vector<PackMember> members;
  int64_t tokens = 0;
  for (size_t b = 0; b < samples.size(); ++b) {
    members.push_back({static_cast<int64_t>(b / 8), static_cast<int32_t>(b % 8), &samples[b]});
    tokens += samples[b].length();
  }
  double best = std::numeric_limits<double>::max();
  int64_t rows = 0;
  for (int run = 0; run < 5; ++run) {
    const auto start = Clock::now();
    rows = make_layout(members).rows();
    best = std::min(best, seconds_since(start));
  }
  std::cout << "make_layout: " << static_cast<double>(tokens) / best / 1e6 << " M tokens/s (" << tokens << " tokens, "
            << rows << " rows)\n";
#ifdef NDEBUG
  EXPECT_GT(static_cast<double>(tokens) / best, 5e6);
#endif
}

}  // namespace
}  // namespace fpdist::prefix
