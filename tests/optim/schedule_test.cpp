#include "src/optim/schedule.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::optim {
namespace {

using test::error_of, test::expect_words;
using Arguments = std::map<std::string, std::string>;

OptimOptions options_of(const std::string& type, const Arguments& arguments = {}) {
  OptimOptions options;
  options.learning_rate = 3e-4, options.lr_scheduler_type = type, options.lr_scheduler_kwargs = arguments;
  return options;
}

TEST(Schedule, EveryStepEqualsTransformers) {
  std::ifstream file(FPDIST_SOURCE_DIR "/tests/golden/schedules.json");
  const auto rows = nlohmann::json::parse(file);
  std::set<std::string> long_ones;
  for (const auto& row : rows) {
    OptimOptions options = options_of(row["lr_scheduler_type"], row["lr_scheduler_kwargs"]);
    options.warmup_steps = row["warmup_steps"];
    const auto& factors = row["factors"];
    const bool is_long = factors.size() == 1000;
    if (is_long) long_ones.insert(options.lr_scheduler_type);
    const RateSchedule schedule(options, row["max_steps"]);
    double farthest = 0;
    for (size_t step = 0; step < factors.size(); ++step)
      farthest =
          std::max(farthest, std::abs(schedule.factor(static_cast<int64_t>(step)) - factors[step].get<double>()));
    EXPECT_LE(farthest, is_long ? 1e-12 : 1e-15) << options.lr_scheduler_type << row["lr_scheduler_kwargs"];
  }
  EXPECT_EQ(long_ones.size(), 8u) << "all but constant, which is no news over 1,000 steps";
}

TEST(Schedule, AnUnknownNameListsTheKnownOnes) {
  expect_words(error_of<ConfigError>([] { RateSchedule(options_of("stairs"), 10); }),
               {"optim.lr_scheduler_type: \"stairs\"", "constant_with_warmup", "or warmup_stable_decay"});
}

TEST(Schedule, AnArgumentThatATypeCannotUseIsNamed) {
  const std::vector<std::tuple<std::string, Arguments, std::vector<std::string>>> bad{
      {"linear", {{"power", "2"}}, {"optim.lr_scheduler_kwargs.power: linear takes no arguments"}},
      {"polynomial", {{"powr", "2"}}, {"kwargs.powr: polynomial has no such argument; it has lr_end and power"}},
      {"polynomial", {{"power", "two"}}, {"kwargs.power is two; it must be a number"}},
      {"polynomial", {{"lr_end", "3e-4"}}, {"polynomial: lr_end 0.0003 is not below optim.learning_rate"}},
      {"cosine_with_min_lr", {}, {"cosine_with_min_lr: give min_lr", "min_lr_rate"}},
      {"cosine_with_min_lr", {{"min_lr", "0"}, {"min_lr_rate", "0"}}, {"both min_lr and min_lr_rate"}},
      {"inverse_sqrt", {{"timescale", "0"}}, {"timescale is 0; it must be 1 or more"}},
      {"inverse_sqrt", {{"timescale", "1.5"}}, {"timescale is 1.5; it must be a number of steps"}},
      {"warmup_stable_decay", {}, {"warmup_stable_decay: num_decay_steps is missing"}},
      {"warmup_stable_decay", {{"num_decay_steps", "-1"}}, {"num_decay_steps is -1; it must be a number of steps"}},
      {"warmup_stable_decay",
       {{"num_decay_steps", "1"}, {"decay_type", "exp"}},
       {"decay_type is exp; it must be linear, cosine or 1-sqrt"}}};
  for (const auto& [type, arguments, words] : bad)
    expect_words(error_of<ConfigError>([&] { RateSchedule(options_of(type, arguments), 10); }), words);
  OptimOptions still = options_of("cosine_with_min_lr", {{"min_lr", "1e-5"}});
  still.learning_rate = 0;
  expect_words(error_of<ConfigError>([&] { RateSchedule(still, 10); }), {"learning_rate above 0"});
}

TEST(Schedule, WarmUpIsStepsOrAPartOfTheRun) {
  OptimOptions options = options_of("linear");
  options.warmup_ratio = 0.1;
  EXPECT_EQ(warmup_steps(options, 101), 11) << "rounded up, as Transformers does";
  EXPECT_DOUBLE_EQ(RateSchedule(options, 101).factor(1), 1.0 / 11);
  options.warmup_steps = 5;
  EXPECT_EQ(warmup_steps(options, 101), 5) << "steps count before the part";
}

TEST(Schedule, ARunThatIsAllWarmUpEndsInItsLastStep) {
  OptimOptions options = options_of("polynomial");
  options.warmup_steps = 10;
  EXPECT_DOUBLE_EQ(RateSchedule(options, 10).factor(9), 0.9);
  EXPECT_TRUE(std::isfinite(RateSchedule(options, 10).factor(10)));
}

}  // namespace
}  // namespace fpdist::optim
