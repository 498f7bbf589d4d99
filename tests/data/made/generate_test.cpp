#include "src/data/made/generate.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "fpdist/core/error.hpp"
#include "tests/data/rows/reader_fixture.hpp"

namespace fpdist::data {
namespace {

using test::ReaderTest;

TEST(Generate, ChosenIsRightAndRejectedIsWrong) {
  std::istringstream lines(arithmetic_pairs(500, 5, 3));
  std::string line, preamble;
  std::set<std::string> questions;
  while (std::getline(lines, line)) {
    const nlohmann::json row = nlohmann::json::parse(line);
    const std::string prompt = row["prompt"], chosen = row["chosen"], rejected = row["rejected"];
    const size_t asked = prompt.rfind("Question: ") + 10, plus = prompt.find('+', asked);
    const std::string sum = std::to_string(std::stoi(prompt.substr(asked)) + std::stoi(prompt.substr(plus + 1)));
    EXPECT_TRUE(chosen.ends_with("So " + sum + ".")) << prompt << chosen;
    EXPECT_FALSE(rejected.ends_with("So " + sum + ".")) << prompt << rejected;
    if (preamble.empty()) preamble = prompt.substr(0, asked);
    EXPECT_TRUE(prompt.starts_with(preamble));
    questions.insert(prompt);
  }
  EXPECT_GE(preamble.size(), 300u);
  EXPECT_LE(preamble.size(), 600u);
  EXPECT_GT(questions.size(), 400u);
}

TEST(Generate, TheSameArgumentsGiveTheSameBytes) {
  EXPECT_EQ(arithmetic_pairs(3, 2, 1), arithmetic_pairs(3, 2, 1));
  EXPECT_NE(arithmetic_pairs(3, 2, 1), arithmetic_pairs(3, 2, 2));
  EXPECT_TRUE(arithmetic_pairs(0, 2, 1).empty());
  EXPECT_EQ(
      arithmetic_pairs(1, 0, 0),
      "{\"prompt\": \"Add the numbers column by column, from the right, and carry.\\n\\nQuestion: 35+55=\\nAnswer:\", "
      "\"chosen\": \" 5+5=10, write 0, carry 1. 3+5+1=9. So 90.\", \"rejected\": \" 5+5=10, write 10. 3+5=8. So "
      "810.\"}\n");
}

TEST(Generate, NegativeCountsAreErrors) {
  const std::string sums = digit_sums();
  EXPECT_EQ(std::count(sums.begin(), sums.end(), '\n'), 55);
  EXPECT_TRUE(sums.starts_with("{\"prompt\": \"0+0=\", \"answer\": \"0\"}\n"));
  EXPECT_TRUE(sums.ends_with("{\"prompt\": \"9+0=\", \"answer\": \"9\"}\n"));
  EXPECT_THROW(arithmetic_pairs(-1, 2, 0), ConfigError);
  EXPECT_THROW(arithmetic_pairs(1, -2, 0), ConfigError);
}

TEST_F(ReaderTest, GeneratedPairsAreReadBack) {
  const Dataset data = read(Method::kDpo, arithmetic_pairs(40, 5, 0));
  EXPECT_EQ(data.group.size(), 40u);
  EXPECT_EQ(data.truncated_samples + data.dropped_rows, 0);
}

}  // namespace
}  // namespace fpdist::data
