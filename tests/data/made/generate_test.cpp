#include "src/data/made/generate.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "fpdist/core/error.hpp"
#include "tests/data/rows/reader_fixture.hpp"

namespace fpdist::data {
namespace {

std::string generated(int64_t pairs, int shots, uint64_t seed) {
  std::ostringstream out;
  generate_arithmetic_pairs(out, pairs, shots, seed);
  return out.str();
}

TEST(Generate, ChosenIsRightAndRejectedIsWrong) {
  std::istringstream lines(generated(500, 5, 3));
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
  EXPECT_EQ(generated(3, 2, 1), generated(3, 2, 1));
  EXPECT_NE(generated(3, 2, 1), generated(3, 2, 2));
  EXPECT_TRUE(generated(0, 2, 1).empty());
  EXPECT_EQ(
      generated(1, 0, 0),
      "{\"prompt\": \"Add the numbers column by column, from the right, and carry.\\n\\nQuestion: 35+55=\\nAnswer:\", "
      "\"chosen\": \" 5+5=10, write 0, carry 1. 3+5+1=9. So 90.\", \"rejected\": \" 5+5=10, write 10. 3+5=8. So "
      "810.\"}\n");
}

TEST(Generate, NegativeCountsAndFailedStreamsAreErrors) {
  std::ostringstream out;
  EXPECT_THROW(generate_arithmetic_pairs(out, -1, 2, 0), ConfigError);
  EXPECT_THROW(generate_arithmetic_pairs(out, 1, -2, 0), ConfigError);
  out.setstate(std::ios::badbit);
  EXPECT_THROW(generate_arithmetic_pairs(out, 1, 2, 0), DiskError);
}

TEST_F(ReaderTest, GeneratedPairsAreReadBack) {
  const Dataset data = read(Method::kDpo, generated(40, 5, 0));
  EXPECT_EQ(data.group.size(), 40u);
  EXPECT_EQ(data.truncated_samples + data.dropped_rows, 0);
}

}  // namespace
}  // namespace fpdist::data
