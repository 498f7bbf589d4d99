// Rows for Prefix-RFT: prompts that end in the beginning of a demonstration, and the groups that come of them.

#include "src/data/made/hybrids.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::data {
namespace {

using Json = nlohmann::json;

class Hybrids : public test::ReaderTest {
 protected:
  std::string refused_prefixes(const std::string& rows, PrefixLengths lengths = {}) const {
    return test::refusal<Error>([&] { prefix_prompts({.input = write("rows.jsonl", rows), .lengths = lengths}); });
  }
  std::string refused_groups(const std::string& plain, const std::string& hybrid) const {
    return test::refusal<DataError>([&] { hybrid_groups(write("plain.jsonl", plain), write("hybrid.jsonl", hybrid)); });
  }
};

const std::string
    kPlain = R"({"prompt_ids":[1,2],"answer":"4","completions":[{"ids":[9],"old_logps":[-1],"reward":0}]})",
    kHybrid = R"({"prompt_ids":[1,2,5,6],"prefix_length":2,"completions":[{"ids":[7],"old_logps":[-2],"reward":1}]})";

TEST_F(Hybrids, PromptsEndInTheBeginningOfADemonstration) {
  PrefixPromptOptions options{
      .input = write("rows.jsonl", R"({"prompt_ids":[1,2],"demonstration_ids":[5,6,7,8,9,3],"answer":"4"})"
                                   "\n"
                                   R"({"prompt_ids":[],"demonstration_ids":[5,6,7,8,9,3]})"
                                   "\n"),
      .lengths = {.low = {.first = 0.1}, .high = {.first = 0.9}, .min_tokens = 0},
      .step = 3,
      .seed = 8};
  std::istringstream lines(prefix_prompts(options));
  const std::vector<int32_t> demonstration{5, 6, 7, 8, 9, 3};
  uint64_t id = 0;
  for (std::string line; std::getline(lines, line); ++id) {
    const Json row = Json::parse(line);
    const int64_t length = options.lengths.length(8, 3, id, 6);
    EXPECT_EQ(row.at("prefix_length"), length);
    std::vector<int32_t> wanted = id == 0 ? std::vector<int32_t>{1, 2} : std::vector<int32_t>{};
    wanted.insert(wanted.end(), demonstration.begin(), demonstration.begin() + length);
    EXPECT_EQ(row.at("prompt_ids").get<std::vector<int32_t>>(), wanted);
    EXPECT_EQ(row.value("answer", ""), id == 0 ? "4" : "");
    EXPECT_FALSE(row.contains("demonstration_ids"));
  }
  EXPECT_EQ(id, 2U);
}

TEST_F(Hybrids, GroupsAreReadAsTheyAreMeant) {
  const std::string rows = hybrid_groups(write("plain.jsonl", kPlain), write("hybrid.jsonl", kHybrid));
  const Dataset dataset = read(Method::kGrpo, rows);
  const std::vector<Sample>& samples = dataset.group.at(0).sample;
  ASSERT_EQ(samples.size(), 2U);
  EXPECT_EQ(samples[0].token, (std::vector<int32_t>{1, 2, 9}));
  EXPECT_EQ(samples[0].prefix_length, 0);
  EXPECT_EQ(samples[1].token, (std::vector<int32_t>{1, 2, 5, 6, 7}));
  EXPECT_EQ(samples[1].prompt_length, 2);
  EXPECT_EQ(samples[1].prefix_length, 2);
  EXPECT_EQ(samples[1].reward, 1);
  EXPECT_TRUE(samples[0].old_logp.empty() && samples[1].old_logp.empty()) << "nobody has the demonstration's";
}

TEST_F(Hybrids, RowsThatAreNoneAreNamed) {
  test::expect_words(refused_prefixes("{\"prompt_ids\":[1]}\n"), {"rows.jsonl:1: ", "in 'demonstration_ids'"});
  test::expect_words(refused_prefixes("{\"prompt_ids\":[1],\"demonstration_ids\":[-3]}"),
                     {"holds -3, which is no token id"});
  test::expect_words(refused_prefixes("[1]"), {"rows.jsonl:1: the line is no JSON object"});
  test::expect_words(refused_prefixes("{}", {.min_tokens = -1}), {"min_tokens is -1"});
  test::expect_words(test::refusal<DataError>([&] { hybrid_groups("missing.jsonl", "missing.jsonl"); }),
                     {"missing.jsonl:1:1: cannot open the file"});
  test::expect_words(refused_groups(R"({"prompt_ids":[1]})", kHybrid), {"plain.jsonl:1: a row has completions"});
  test::expect_words(refused_groups(kPlain, kPlain), {"hybrid.jsonl:1: ", "'prefix_length'"});
  test::expect_words(refused_groups(kPlain, R"({"prompt_ids":[1],"prefix_length":2,"completions":[{"ids":[7]}]})"),
                     {"'prefix_length'"});
  test::expect_words(refused_groups(kPlain, R"({"prompt_ids":[3,4],"prefix_length":1,"completions":[{"ids":[7]}]})"),
                     {"has no row of this prompt"});
  test::expect_words(refused_groups(kPlain, R"({"prompt_ids":[1,2,3],"prefix_length":1,"completions":[{"reward":1}]})"),
                     {"a row has a list of token ids in 'ids'"});
}

}  // namespace
}  // namespace fpdist::data
