// Rows whose steps are judged, as TRL's PRMTrainer encodes them.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::data {
namespace {

using Ids = std::vector<int32_t>;

class Steps : public test::ReaderTest {
 protected:
  Sample sample(std::string_view row, DataOptions options = {}) const {
    return read(Method::kPrm, row, std::move(options)).group.at(0).sample.at(0);
  }
};

constexpr std::string_view kRow = R"({"prompt":"q","completions":["ab","c"],"labels":[true,false]})";

TEST_F(Steps, ALabelStandsAtTheEndOfItsStepBehindTheSeparator) {
  const Sample made = sample(kRow);
  EXPECT_EQ(made.token, (Ids{'q', 'a', 'b', '\n', 'c', '\n', '\n'})) << "no end of sequence, and one that nothing asks";
  EXPECT_EQ(made.target, (Ids{kIgnore, kIgnore, kIgnore, kIgnore, 1, kIgnore, 0})) << "of the token before";
  EXPECT_EQ(made.prompt_length, 1);
  EXPECT_EQ(sample(R"({"prompt":"q","completions":["ab","c"],"labels":[1,0]})").target, made.target);
  DataOptions other;
  other.step_separator = "<>";
  EXPECT_EQ(sample(kRow, other).target, (Ids{kIgnore, kIgnore, kIgnore, kIgnore, kIgnore, 1, kIgnore, kIgnore, 0}));
}

TEST_F(Steps, OnlyTheLastMayBeLearned) {
  DataOptions last;
  last.train_on_last_step_only = true;
  EXPECT_EQ(sample(kRow, last).target, (Ids{kIgnore, kIgnore, kIgnore, kIgnore, kIgnore, kIgnore, 0}));
}

TEST_F(Steps, ThatMaxLengthCutsAreLearnedUpToThere) {
  DataOptions short_ones;
  short_ones.max_length = 5;
  const Dataset cut = read(Method::kPrm, kRow, short_ones);
  EXPECT_EQ(cut.truncated_samples, 1);
  EXPECT_EQ(cut.group[0].sample[0].token, (Ids{'q', 'a', 'b', '\n', 'c', 'c'}));
  EXPECT_EQ(cut.group[0].sample[0].target, (Ids{kIgnore, kIgnore, kIgnore, kIgnore, 1, kIgnore}));
  short_ones.max_length = 3;
  const Dataset none =
      read(Method::kPrm, std::string(kRow) + "\n" + R"({"prompt":"","completions":[""],"labels":[0]})", short_ones);
  EXPECT_EQ(none.dropped_rows, 1) << "no label is left";
  EXPECT_EQ(none.group.size(), 1U);
}

TEST_F(Steps, RowsOfTokensHaveLabelsAtTheirTokens) {
  const Sample made = sample(R"({"input_ids":[5,6,7],"labels":[-100,1,0],"weight":[1,1,2]})");
  EXPECT_EQ(made.token, (Ids{5, 6, 7, 7}));
  EXPECT_EQ(made.target, (Ids{kIgnore, kIgnore, 1, 0}));
  EXPECT_EQ(made.weight, (std::vector<double>{1, 1, 1, 2}));
  EXPECT_EQ(sample(R"({"input_ids":[5],"labels":[1]})").target, (Ids{kIgnore, 1})) << "at the first token as well";
  DataOptions exact;
  exact.max_length = 3;
  EXPECT_EQ(error(Method::kPrm, R"({"input_ids":[5,6,7],"labels":[-100,1,0]})", exact), "accepted");
}

TEST_F(Steps, OfOddRowsAreRefused) {
  const auto refused = [&](std::string_view row, const std::vector<std::string>& words, Method method = Method::kPrm) {
    test::expect_words(error(method, row), words);
  };
  refused(R"({"prompt":"q","completions":["a"],"labels":[true,false]})", {"labels has 2 entries, completions has 1"});
  refused(R"({"prompt":"q","completions":["a"],"labels":[2]})", {"labels holds 2: a step is right or not"});
  refused(R"({"prompt":"q","completions":["a"],"labels":[-100]})", {"labels holds -100"});
  refused(R"({"input_ids":[5],"labels":[7]})", {"labels holds 7", "-100 at all other tokens"});
  refused(R"({"prompt":"q","completions":["a"]})", {"missing column 'labels'"});
  refused(R"({"prompt":[{"role":"user","content":"q"}],"completions":["a"],"labels":[1]})",
          {"'prompt' is a text here and 'completions' its steps"});
  refused(R"({"input_ids":[5],"labels":[true]})", {"'labels' are true and false", "method: prm"}, Method::kSft);
  DataOptions bare;
  bare.step_separator = "";
  test::expect_words(error(Method::kPrm, R"({"prompt":"q","completions":["a",""],"labels":[1,1]})", bare),
                     {"step 2 has no token", "data.step_separator"});
}

}  // namespace
}  // namespace fpdist::data
