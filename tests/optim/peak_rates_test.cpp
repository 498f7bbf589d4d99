#include "src/optim/peak_rates.hpp"

#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::optim {
namespace {

using test::error_of, test::expect_words;

OptimOptions with_rates(std::map<std::string, std::string> rates) {
  OptimOptions options;
  options.learning_rate = 1e-3, options.learning_rates = std::move(rates);
  return options;
}

TEST(PeakRates, TheLongestPatternThatFitsAWholeNameCounts) {
  const PeakRates rates(with_rates(
      {{"*", "1"}, {"*.bias", "2"}, {"model.layers.?.*", "3"}, {"model.layers.1.*.bias", "4"}, {"lm_head", "5"}}));
  EXPECT_EQ(rates.of("lm_head.weight"), 1) << "lm_head is not the whole name";
  EXPECT_EQ(rates.of("model.norm.bias"), 2);
  EXPECT_EQ(rates.of("model.layers.7.mlp.up_proj.bias"), 3) << "longer than *.bias";
  EXPECT_EQ(rates.of("model.layers.12.mlp.up_proj.weight"), 1) << "? is one character";
  EXPECT_EQ(rates.of("model.layers.1.self_attn.q_proj.bias"), 4);
}

TEST(PeakRates, OtherNamesHaveTheLearningRate) {
  EXPECT_EQ(PeakRates(with_rates({{"*embed*", "0"}})).of("model.norm.weight"), 1e-3);
  EXPECT_EQ(PeakRates(with_rates({{"*embed*", "0"}})).of("model.embed_tokens.weight"), 0);
}

TEST(PeakRates, RefusesWhatIsNoRateAndAPatternThatFitsNothing) {
  for (const char* rate : {"fast", "", "-1e-5", "inf", "1e-5x"})
    expect_words(error_of<ConfigError>([&] {
                   PeakRates(with_rates({{"*embed*", rate}}));
                 }),
                 {"optim.learning_rates: *embed* has the rate ", "must be a number, 0 or more"});
  const PeakRates rates(with_rates({{"*embed*", "1e-5"}, {"*.q_porj.*", "1e-5"}}));
  const std::vector<std::string> names{"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"};
  expect_words(error_of<ConfigError>([&] { rates.check_all_fit(names); }),
               {"optim.learning_rates: *.q_porj.* fits no weight", "self_attn.q_proj.weight"});
}

}  // namespace
}  // namespace fpdist::optim
