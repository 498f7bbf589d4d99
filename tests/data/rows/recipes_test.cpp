// Rows as other systems write them. The configurations are those of configs/README.md, word for word.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::data {
namespace {

/// "{a: b, c: d + e}" behind `key` in `line`; quotes are left out.
std::map<std::string, std::string> map_behind(const std::string& key, const std::string& line) {
  std::map<std::string, std::string> map;
  const size_t at = line.find(key + ": {");
  if (at == std::string::npos) return map;
  std::string inside = line.substr(at + key.size() + 3);
  std::stringstream entries(inside.substr(0, inside.find('}')));
  for (std::string entry; std::getline(entries, entry, ',');) {
    const size_t begin = entry.find_first_not_of(' '), colon = entry.find(": ");
    map[entry.substr(begin, colon - begin)] = entry.substr(colon + 2, entry.find_last_not_of(' ') - colon - 1);
  }
  return map;
}

class Recipes : public test::ReaderTest {
 protected:
  /// data.columns of the line of configs/README.md whose data.path is `file`.
  static DataOptions recipe(const std::string& file) {
    std::ifstream readme(std::filesystem::path(FPDIST_SOURCE_DIR) / "configs/README.md");
    DataOptions options;
    for (std::string line; std::getline(readme, line);) {
      if (line.find("data: { path: [" + file + "]") == std::string::npos) continue;
      options.columns = map_behind("columns", line);
      if (line.find("group_by: uid") != std::string::npos) options.group_by = GroupBy::kUid;
      return options;
    }
    ADD_FAILURE() << "configs/README.md has no recipe for " << file;
    return options;
  }
  std::string text_of(const Sample& sample) const {
    std::string all;
    for (const int32_t id : sample.token) all += id < 256 ? static_cast<char>(id) : '$';
    return all;
  }
};

TEST_F(Recipes, Alpaca) {
  const std::string rows = R"({"output": "o", "input": "i", "instruction": "do"})"
                           "\n"
                           R"({"instruction": "do", "input": "", "output": "o"})"
                           "\n"
                           R"({"instruction": "do", "output": "o"})"
                           "\n"
                           R"({"instruction": "do", "input": null, "output": "o"})";
  const Dataset data = read(Method::kSft, rows, recipe("alpaca.jsonl"));
  EXPECT_EQ(text_of(data.group.at(0).sample.at(0)), "do\nio$");
  EXPECT_EQ(data.group[0].sample[0].prompt_length, 4);
  for (size_t row = 1; row < 4; ++row) EXPECT_EQ(text_of(data.group.at(row).sample.at(0)), "doo$");
  EXPECT_EQ(error(Method::kSft, R"({"input": "i", "output": "o"})", recipe("alpaca.jsonl")),
            "1:1: missing column 'instruction + input': a sft row has input_ids + labels (token ids) or instruction + "
            "input + "
            "output, text or messages (text); this one has input, output");
  test::expect_words(error(Method::kSft, R"({"instruction": 1, "output": "o"})", recipe("alpaca.jsonl")),
                     {"1:17: wrong type: expected a string in 'instruction'"});
  test::expect_words(
      error(Method::kSft, R"({"instruction": "a", "input": "b", "input": "c", "output": "o"})", recipe("alpaca.jsonl")),
      {"column 'input' appears twice"});
}

TEST_F(Recipes, ColumnsThatCannotBeJoinedAreRefused) {
  const auto said = [&](std::map<std::string, std::string> columns) {
    DataOptions options;
    options.columns = std::move(columns);
    return test::error_of<ConfigError>([&] { read(Method::kSft, "{}", options); });
  };
  test::expect_words(said({{"messages", "a + b"}}), {"'messages' is no text and cannot be made of several columns"});
  test::expect_words(said({{"prompt", "a + completion"}}), {"two columns of ours are 'completion' in the file"});
  test::expect_words(said({{"prompt", "a + a"}}), {"two columns of ours are 'a' in the file"});
}

TEST_F(Recipes, OpenRlhf) {
  const Dataset data =
      read(Method::kDpo, R"({"input": "q", "preferred": "a", "other": "b"})", recipe("openrlhf.jsonl"));
  EXPECT_EQ(text_of(data.group.at(0).sample.at(0)), "qa$");
  EXPECT_EQ(text_of(data.group.at(0).sample.at(1)), "qb$");
}

TEST_F(Recipes, RankingFilesOfLlamaFactory) {
  const Dataset data = read(Method::kDpo, R"({"instruction": "q", "input": "x", "chosen": "a", "rejected": "b"})",
                            recipe("ranking.jsonl"));
  EXPECT_EQ(text_of(data.group.at(0).sample.at(0)), "q\nxa$");
  const std::string chat =
      R"({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, )"
      R"("rejected": {"from": "gpt", "value": "b"}})";
  test::expect_words(error(Method::kDpo, chat, recipe("ranking_chat.jsonl")), {"bytes have no chat template"});
}

TEST_F(Recipes, ConversationsOfSharegptAndOfChat) {
  tokenizer_ = make_worker_tokenizer(
      {.directory = (std::filesystem::path(FPDIST_SOURCE_DIR) / "tests/golden/text/qwen").string()});
  const std::string sharegpt = R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})",
                    chat = R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})";
  const Sample theirs = read(Method::kSft, sharegpt, recipe("sharegpt.jsonl")).group.at(0).sample.at(0);
  const Sample ours = read(Method::kSft, chat, recipe("chat.jsonl")).group.at(0).sample.at(0);
  EXPECT_EQ(theirs.token, ours.token);
  EXPECT_GT(ours.length(), 4);
  const std::string pair =
      R"({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, )"
      R"("rejected": {"from": "gpt", "value": "b"}})";
  const Group ranked = read(Method::kDpo, pair, recipe("ranking_chat.jsonl")).group.at(0);
  EXPECT_EQ(ranked.sample.at(0).token, ours.token);
  EXPECT_NE(ranked.sample.at(1).token, ours.token);
}

TEST_F(Recipes, Verl) {
  const std::string row =
      R"({"prompts": [1], "responses": [2, 3], "old_log_probs": [-1, -2], "reward": 1, "uid": "a"})";
  const Dataset data = read(Method::kGrpo, row + "\n" + row, recipe("verl.jsonl"));
  ASSERT_EQ(data.group.size(), 1U);
  EXPECT_EQ(data.group[0].sample.at(1).old_logp, (std::vector<double>{0, -1, -2}));
}

}  // namespace
}  // namespace fpdist::data
