#include "src/optim/schedule.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "fpdist/core/error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::optim {
namespace {

TEST(Schedule, EveryStepEqualsTransformers) {
  std::ifstream file(FPDIST_SOURCE_DIR "/tests/golden/schedules.json");
  const auto rows = nlohmann::json::parse(file);
  ASSERT_EQ(rows.size(), 24u);
  for (const auto& row : rows) {
    OptimOptions options;
    options.learning_rate = 3e-4;
    options.lr_scheduler_type = row["lr_scheduler_type"];
    options.warmup_steps = row["warmup_steps"];
    int64_t step = 0;
    for (const double factor : row["factors"]) {
      EXPECT_NEAR(learning_rate(options, step, row["max_steps"]), 3e-4 * factor, 1e-18) << row << " step " << step;
      ++step;
    }
  }
}

TEST(Schedule, AnUnknownNameListsTheKnownOnes) {
  OptimOptions options;
  options.lr_scheduler_type = "polynomial";
  test::expect_words(test::error_of<ConfigError>([&] { learning_rate(options, 0, 10); }), {"constant_with_warmup"});
}

}  // namespace
}  // namespace fpdist::optim
