// Files that are odd, and rows that cannot be read but need not end a run. The table in configs/README.md says the
// same.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "src/data/rows/messages.hpp"
#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::data {
namespace {

using Ids = std::vector<int32_t>;
const std::string kRow = R"({"prompt": "a", "completion": "b"})";

class OddFiles : public test::ReaderTest {
 protected:
  Dataset read_paths(std::vector<std::string> paths) const {
    DataOptions options;
    options.path = std::move(paths);
    NullLog log;
    return read_dataset(options, Method::kSft, *tokenizer_, log);
  }
  /// The DataError of reading `path`, without the folder.
  std::string refusal(const std::string& path) const {
    try {
      read_paths({path});
    } catch (const DataError& error) {
      std::string what = error.what();
      for (size_t at; (at = what.find(folder_.string() + "/")) != std::string::npos;)
        what.erase(at, folder_.string().size() + 1);
      return what;
    }
    return "accepted";
  }
  std::string packed(const std::string& name, const std::string& bytes, const char* program) const {
    const std::string plain = write(name, bytes);
    EXPECT_EQ(std::system(text(program, " -q ", plain, " 2>/dev/null").c_str()), 0);
    return plain;
  }
};

TEST_F(OddFiles, ALineMayBeLongButNotWithoutEnd) {
  const std::string long_row = R"({"prompt": "a", "completion": ")" + std::string(size_t{3} << 20, 'x') + "\"}";
  const Dataset data = read_paths({write("long.jsonl", kRow + "\n" + long_row + "\n" + kRow)});
  EXPECT_EQ(data.group.size(), 3U);
  EXPECT_EQ(data.truncated_samples, 1);
  test::expect_words(refusal(write("endless.jsonl", kRow + "\n" + std::string(size_t{66} << 20, 'x'))),
                     {"endless.jsonl:2:1: the line is longer than 64 MiB"});
}

TEST_F(OddFiles, DeepNestingIsRefusedWhoeverWantsTheValue) {
  const std::string deep = std::string(70, '[') + std::string(70, ']');
  test::expect_words(error(Method::kSft, R"({"prompt": "a", "completion": "b", "x": )" + deep + "}"),
                     {"nested more than 64 deep"});
  test::expect_words(error(Method::kSft, R"({"messages": [{"role": "user", "content": )" + deep + "}]}"),
                     {"1:15: nested more than 64 deep"});
  test::expect_words(error(Method::kSft, R"({"messages": [{"role": "user"}], "tools": )" + deep + "}"),
                     {"nested more than 64 deep"});
}

TEST_F(OddFiles, NulsAndOtherControlCharactersAreRefused) {
  test::expect_words(error(Method::kSft, std::string("{\"prompt\": \"a\0\", \"completion\": \"\"}", 33)),
                     {"1:14: bad JSON: a control character"});
  test::expect_words(error(Method::kSft, std::string("\0\0\0\0", 4)), {"1:1: wrong type: expected a row"});
  const Dataset data = read(Method::kSft, R"({"prompt": "a\u0000", "completion": ""})");
  EXPECT_EQ(data.group.at(0).sample.at(0).token, (Ids{'a', 0, 256})) << "an escape is a character like others";
}

TEST_F(OddFiles, PackedFilesFoldersAndPatternsAreRead) {
  packed("b.jsonl", R"({"text": "b"})", "gzip");
  write("a.jsonl", R"({"text": "a"})");
  write("notes.txt", "no data");
  const auto first_letters = [&](const std::string& path) {
    std::string all;
    for (const Group& group : read_paths({path}).group) all += static_cast<char>(group.sample.at(0).token.at(0));
    return all;
  };
  EXPECT_EQ(first_letters((folder_ / "b.jsonl.gz").string()), "b");
  EXPECT_EQ(first_letters(folder_.string()), "ab");
  EXPECT_EQ(first_letters((folder_ / "*.jsonl*").string()), "ab");
  EXPECT_EQ(first_letters((folder_ / "[b-z].jsonl.gz").string()), "b");
  if (std::system("zstd --version > /dev/null 2>&1") == 0) {
    packed("c.jsonl", R"({"text": "c"})", "zstd");
    EXPECT_EQ(first_letters((folder_ / "c.jsonl.zst").string()), "c");
  }
}

TEST_F(OddFiles, WhatIsNotThereOrCannotBeUnpackedIsNamed) {
  EXPECT_EQ(refusal((folder_ / "none*.jsonl").string()),
            "none*.jsonl:1:1: no file is called like this: check data.path");
  std::filesystem::create_directory(folder_ / "empty");
  EXPECT_EQ(refusal((folder_ / "empty").string()),
            "empty:1:1: the folder has no .jsonl or .parquet file: check data.path");
  test::expect_words(refusal((folder_ / "missing.jsonl.gz").string()), {"missing.jsonl.gz:1:1: cannot open the file"});
  test::expect_words(refusal("missing.jsonl"),
                     {"missing.jsonl:1:1: cannot open the file (No such file or directory in ",
                      std::filesystem::current_path().string() + ", where this was started)"});
  test::expect_words(refusal(write("broken.jsonl.gz", "no gzip")),
                     {"broken.jsonl.gz:1:1: gzip cannot unpack the file: "});
  packed("cut.jsonl", std::string(100000, ' ') + kRow + "\n", "gzip");
  std::filesystem::resize_file(folder_ / "cut.jsonl.gz", 60);
  test::expect_words(refusal((folder_ / "cut.jsonl.gz").string()), {"gzip cannot unpack the file: "});
}

TEST_F(OddFiles, AMisspeltColumnIsNamedWithTheCure) {
  EXPECT_EQ(
      error(Method::kSft, R"({"prompt": "a", "completoin": "b"})"),
      "1:1: missing column 'completion': a sft row has input_ids + labels (token ids) or prompt + completion, text or "
      "messages (text); this one has prompt, completoin; if 'completoin' is meant: data.columns: {completion: "
      "completoin}");
  DataOptions options;
  options.columns = {{"completion", "completoin"}};
  EXPECT_EQ(read(Method::kSft, R"({"prompt": "a", "completoin": "b"})", options).group.size(), 1U);
}

TEST_F(OddFiles, ShareGptConversationsAreConversations) {
  const ChatMessage said = read_message(R"({"from": "gpt", "value": "hi", "weight": 1.50})");
  EXPECT_EQ(said.role, "assistant");
  EXPECT_EQ(said.json, R"({"role":"assistant","content":"hi","weight":1.5})");
  EXPECT_EQ(read_message(R"({"from": "human", "value": ""})").role, "user");
  EXPECT_EQ(read_message(R"({"role": "gpt", "content": ""})").role, "gpt") << "a role is what it says";
}

class Skipping : public OddFiles {
 protected:
  static DataOptions up_to(int64_t rows) {
    DataOptions options;
    options.on_error = OnError::kSkip;
    options.max_skipped = rows;
    return options;
  }
};

TEST_F(Skipping, RowsThatCannotBeReadAreLeftOutAndListed) {
  const std::string rows = kRow + "\n{\"prompt\": \"a\"}\nnonsense\n" + R"({"messages": [{"role": "user"}]})" + "\n" +
                           kRow + "\n" + R"({"prompt": [{"role": "user"}], "completion": [{"role": "assistant"}]})";
  DataOptions options = up_to(4);
  options.path = {write("rows.jsonl", rows)};
  test::HeardLog log;
  const Dataset data = read_dataset(options, Method::kSft, *tokenizer_, log);
  EXPECT_EQ(data.group.size(), 2U);
  EXPECT_EQ(data.group[1].id, 1);
  ASSERT_EQ(data.skipped.size(), 4U);
  const std::string file = options.path[0];
  EXPECT_TRUE(data.skipped[0].starts_with(file + ":2:1: missing column")) << data.skipped[0];
  EXPECT_TRUE(data.skipped[1].starts_with(file + ":3:1: wrong type: expected a row")) << data.skipped[1];
  EXPECT_TRUE(data.skipped[2].starts_with(file + ":4:1: this row has messages")) << data.skipped[2];
  EXPECT_NE(data.skipped[3].find(":6:12: the row is a conversation, and bytes have no chat template"),
            std::string::npos);
  test::expect_words(
      log.said(), {"warning left out 4 rows that cannot be read (data.on_error: skip), the first: " + file + ":2:1: "});
}

TEST_F(Skipping, MoreThanAskedForEndTheRun) {
  const std::string rows = kRow + "\nnonsense\nnonsense";
  EXPECT_EQ(read(Method::kSft, rows, up_to(2)).skipped.size(), 2U);
  test::expect_words(error(Method::kSft, rows, up_to(1)),
                     {"3:1: wrong type: expected a row", "more than data.max_skipped 1 rows cannot be read"});
  test::expect_words(error(Method::kSft, "nonsense", up_to(5)), {"every row was dropped"});
}

}  // namespace
}  // namespace fpdist::data
