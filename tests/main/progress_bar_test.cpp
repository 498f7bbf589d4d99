#include "src/main/progress_bar.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace fpdist::main_program {
namespace {

trainer::RunProgress half_done() {
  return {.step = 50,
          .max_steps = 100,
          .phase = "",
          .elapsed_seconds = 65,
          .seconds_left = 3725,
          .loss = 0.51234,
          .tokens_per_second = 98155,
          .sharing_ratio = 10.136,
          .shown = "accuracy 0.750"};
}

/// Nothing but the count is known.
trainer::RunProgress at(int64_t step, int64_t max_steps) {
  trainer::RunProgress progress;
  progress.step = step, progress.max_steps = max_steps;
  return progress;
}

/// Columns on a terminal: bytes of UTF-8 that begin a character.
size_t columns(const std::string& line) {
  return static_cast<size_t>(
      std::count_if(line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

TEST(ProgressBar, SaysEverythingWhereThereIsRoom) {
  EXPECT_EQ(
      progress_bar(half_done(), 110, false),
      " 50%|###########............|  50/100  loss 0.5123  1:05<1:02:05  98k tokens/s  accuracy 0.750  sharing 10.14x");
  EXPECT_EQ(progress_bar(half_done(), 25, true), " 50%|█████▌     |  50/100");
  EXPECT_EQ(progress_bar(at(1, 3), 40, false), " 33%|#######..............|  1/3  0:00<?");
}

TEST(ProgressBar, NeverGoesBeyondTheWidthAndLeavesOutTheLeastImportantFirst) {
  trainer::RunProgress progress = half_done();
  progress.phase = "saving checkpoint-50";
  size_t least = 0;  // parts of the narrower ones
  for (size_t width = 4; width < 200; ++width) {
    EXPECT_LE(columns(progress_bar(progress, width, true)), width);
    const std::string line = progress_bar(progress, width, false);
    EXPECT_LE(line.size(), width);
    const auto parts = static_cast<size_t>(std::count(line.begin() + 2, line.end(), ' '));
    EXPECT_GE(parts, least) << width;
    least = parts;
  }
  const std::string narrow = progress_bar(progress, 60, false);
  EXPECT_NE(narrow.find("saving checkpoint-50"), std::string::npos) << narrow;
  EXPECT_EQ(narrow.find("tokens/s"), std::string::npos) << narrow;
}

TEST(ProgressBar, EveryStepOfARunFits) {
  for (int64_t step = 0; step <= 997; ++step)
    for (const bool is_utf8 : {false, true}) {
      trainer::RunProgress progress = half_done();
      progress.step = step, progress.max_steps = 997;
      const std::string line = progress_bar(progress, 80, is_utf8);
      EXPECT_LE(columns(line), 80U);
      EXPECT_TRUE(line.starts_with("100%") == (step == 997)) << line;
    }
  EXPECT_NE(progress_bar(at(5, 0), 80, true).find("5/0"), std::string::npos);
}

TEST(ProgressBar, WhatIsNotKnownYetIsNotShown) {
  EXPECT_EQ(progress_bar(at(0, 9), 60, false), "  0%|.........................................|  0/9  0:00<?");
}

}  // namespace
}  // namespace fpdist::main_program
