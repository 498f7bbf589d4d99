#include "src/plan/pack/length_tree.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/plan/costs/costs_file.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::plan {
namespace {

TEST(LengthTree, NodesAreInPreOrderAndSamplesInFileOrder) {
  const LengthTree tree = parse_lengths(
      "{\"prefix\": 10, \"completions\": [3, 4]}\n\n"
      "{\"prefix\": 5, \"children\": [{\"prefix\": 2, \"completions\": [1]}, {\"prefix\": 0, \"completions\": [6, "
      "7]}]}\n",
      "f");
  ASSERT_EQ(tree.node.size(), 9u);
  ASSERT_EQ(tree.sample.size(), 5u);
  EXPECT_EQ(tree.lines, 2);
  std::vector<int32_t> node, line;
  for (const LengthSample& sample : tree.sample) node.push_back(sample.node), line.push_back(sample.line);
  EXPECT_EQ(node, (std::vector<int32_t>{1, 2, 5, 7, 8}));
  EXPECT_EQ(line, (std::vector<int32_t>{0, 0, 1, 1, 1}));
  EXPECT_EQ(tree.node[8].above, 5);
  EXPECT_EQ(tree.node[5].above, 7);
  EXPECT_EQ(tree.tokens_logical(), 13 + 14 + 8 + 11 + 12);
  EXPECT_EQ(tree.unique(), (Amount{38, 55 + 36 + 50 + 15 + 13 + 8 + 51 + 63, 21}));
}

TEST(LengthTree, NobodyPredictsTheFirstTokenOfAll) {
  const LengthTree tree = parse_lengths("{\"prefix\": 0, \"completions\": [4, 0]}", "f");
  EXPECT_EQ(tree.sample[0].edges, 3);
  EXPECT_EQ(tree.sample[1].edges, 0);
}

std::string refusal(const std::string& text) {
  return test::refusal<DataError>([&] { parse_lengths(text, "f"); });
}

TEST(LengthTree, BadLinesAreNamed) {
  EXPECT_NE(refusal("{\"prefix\": 1, \"completions\": [1]}\n{]").find("f:2: not a JSON object"), std::string::npos);
  EXPECT_EQ(refusal("[1]"), "f:1: expected an object with prefix and completions or children");
  EXPECT_EQ(refusal("{\"completions\": [1]}"),
            "f:1: an object without prefix: give the tokens that its samples share, or 0");
  EXPECT_EQ(refusal("{\"prefix\": -1, \"completions\": [1]}"), "f:1: prefix must be a number of tokens, 0 or more");
  EXPECT_EQ(refusal("{\"prefix\": 1, \"completions\": [1.5]}"),
            "f:1: completions must be a number of tokens, 0 or more");
  EXPECT_EQ(refusal("{\"prefix\": 1, \"completions\": 3}"), "f:1: completions must be a list");
  EXPECT_EQ(refusal("{\"prefix\": 1, \"completion\": [3]}"),
            "f:1: unknown key 'completion': use prefix, completions, children");
  EXPECT_EQ(refusal("{\"prefix\": 1, \"children\": [{\"prefix\": 2}]}"), "f:1: an object without completions below it");
  EXPECT_EQ(refusal("{\"prefix\": 99999999, \"completions\": [1]}"), "f:1: a sample of more than 16777216 tokens");
  EXPECT_NE(refusal("\n \n").find("f: no samples"), std::string::npos);
  EXPECT_THROW(read_lengths("no_such_file"), DataError);
  const std::string deep(3000, '[');
  EXPECT_NE(refusal("{\"prefix\": 1, \"children\": " + deep).find("not a JSON object"), std::string::npos);
}

/// Plain lines are read by hand, all others by simdjson.
TEST(LengthTree, HowALineIsWrittenMakesNoDifference) {
  const LengthTree plain = parse_lengths("{\"prefix\": 10, \"completions\": [3, 40, 0]}\r\n", "f");
  for (const char* line :
       {"{\"completions\":[3,40,0],\"prefix\":10}", " {\"prefix\" :10,\t\"completions\": [ 3 ,40,0 ] } ",
        "{\"prefix\": 10, \"completions\": [3, 40, 0], \"children\": []}"}) {
    const LengthTree other = parse_lengths(line, "f");
    ASSERT_EQ(other.node.size(), plain.node.size()) << line;
    EXPECT_EQ(other.unique(), plain.unique()) << line;
    EXPECT_EQ(other.lines, 1);
  }
  for (const char* number : {"007", "-0.5", "1e3", "+1", "1.", "99999999999999999999", "\"1\"", ""})
    EXPECT_NE(refusal(fpdist::text("{\"prefix\": 1, \"completions\": [", number, "]}")), "") << number;
  for (const char* line : {"{\"prefix\": 1, \"completions\": [1]", "{\"prefix\": 1, \"completions\": [1]}}",
                           "{\"prefix\": 1, \"completions\": [1,]}"})
    EXPECT_NE(refusal(line).find("not a JSON object"), std::string::npos) << line;
}

TEST(LengthTree, TheReferenceFilesHaveTheirPublishedTotals) {
  const std::string folder = FPDIST_SOURCE_DIR "/../shared/data/lengths/";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "SKIPPED: no " << folder;
  for (const auto& [name, lines, samples, unique, logical_permille] :
       {std::tuple{"gsm8k", 256, 1024, Amount{88162, 8932506, 71585}, 1564},
        std::tuple{"gsm8k_pairs", 512, 1024, Amount{113712, 10782611, 79095}, 1304},
        std::tuple{"long_cot", 64, 512, Amount{1991564, 5995672264, 1971750}, 1070},
        std::tuple{"long_prompt", 64, 512, Amount{750278, 4199005040, 303103}, 5172},
        std::tuple{"mixed", 64, 512, Amount{709420, 1536674456, 615236}, 1929},
        std::tuple{"mixed_128", 128, 1024, Amount{1322622, 2451098594, 1167994}, 1818},
        std::tuple{"agent_tree", 1, 128, Amount{272715, 972505178, 220935}, 2000},
        std::tuple{"small", 12, 48, Amount{35749, 31219305, 29568}, 1519}}) {
    const LengthTree tree = read_lengths(folder + name + ".jsonl");
    EXPECT_EQ(tree.lines, lines) << name;
    EXPECT_EQ(static_cast<int>(tree.sample.size()), samples) << name;
    EXPECT_EQ(tree.unique(), unique) << name;
    EXPECT_EQ((1000 * tree.tokens_logical() + unique.rows / 2) / unique.rows, logical_permille) << name;
  }
}

std::string costs_refusal(const std::string& text) {
  return test::refusal<ConfigError>([&] { parse_costs(text, "c.yaml"); });
}

TEST(CostsFile, TheShippedFileHoldsTheBuiltInValues) {
  const StageCosts file = read_costs(FPDIST_SOURCE_DIR "/configs/costs/llama3-8b.yaml"), built_in;
  EXPECT_EQ(unit_cost(file, {3, 5, 2}).layer, unit_cost(built_in, {3, 5, 2}).layer);
  EXPECT_EQ(unit_cost(file, {3, 5, 2}).head, unit_cost(built_in, {3, 5, 2}).head);
  EXPECT_EQ(unit_cost(file, {3, 5, 2}).link, unit_cost(built_in, {3, 5, 2}).link);
  EXPECT_EQ(file.layers, built_in.layers);
}

TEST(CostsFile, EveryKeyIsReadAndErrorsAreNamed) {
  const StageCosts costs = parse_costs(
      "layers: 2\nper_row: 3 # three\n# only words\n\nforward_pair: 4\nbackward_pair: 5\nper_edge: 6\noverhead_rows: "
      "7\n"
      "per_link: 8\nper_link_row: 9\nrecompute: true\n",
      "c.yaml");
  EXPECT_EQ(costs.layers, 2);
  EXPECT_EQ(costs.per_link_row, 9);
  EXPECT_TRUE(costs.recompute);
  EXPECT_NE(costs_refusal("per_raw: 3").find("c.yaml:1: unknown key 'per_raw': use layers, per_row"),
            std::string::npos);
  EXPECT_NE(costs_refusal("\nper_row: 3x").find("c.yaml:2: per_row is '3x': use a whole number"), std::string::npos);
  EXPECT_NE(costs_refusal("per_row: -3").find("per_row is '-3'"), std::string::npos);
  EXPECT_NE(costs_refusal("per_row: 999999999").find("from 0 to 100000000"), std::string::npos);
  EXPECT_EQ(costs_refusal("per_row"), "c.yaml:1: expected 'key: value'");
  EXPECT_EQ(costs_refusal("per_row: 1\nper_row: 2"), "c.yaml:2: 'per_row' is given twice");
  EXPECT_EQ(costs_refusal("recompute: yes"), "c.yaml:1: recompute is 'yes': use true or false");
  EXPECT_EQ(costs_refusal("layers: 0"), "c.yaml: layers and per_row must be 1 or more");
  EXPECT_THROW(read_costs("no_such_file"), ConfigError);
  EXPECT_THROW(check_costs_fit(costs, 32, "c.yaml"), ConfigError);
  EXPECT_NO_THROW(check_costs_fit(costs, 2, "c.yaml"));
}

}  // namespace
}  // namespace fpdist::plan
