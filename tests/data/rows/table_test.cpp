// Parquet and Arrow IPC files are read as the JSON lines that say the same. They are written by pyarrow, where
// launch/setup.sh --with-parquet has put it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "fpdist/data/prompts.hpp"
#include "src/data/source/cached_dataset.hpp"
#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::data {
namespace {

namespace fs = std::filesystem;

const fs::path kPackages = fs::path(FPDIST_BINARY_DIR) / "share/fpdist/text/tables";

class Tables : public test::ReaderTest {
 protected:
  void SetUp() override {
    if (!fs::exists(kPackages / "pyarrow")) GTEST_SKIP() << "no pyarrow: run launch/setup.sh --with-parquet";
  }
  /// Runs Python with pyarrow as pa and pq; `table(columns)` writes `name` by its ending.
  std::string write_table(const std::string& name, const std::string& columns) const {
    const std::string path = (folder_ / name).string();
    write("make.py",
          "import sys\nsys.path[:0] = [sys.argv[1]]\nimport pyarrow as pa, pyarrow.parquet as pq, pyarrow.ipc\n"
          "path = sys.argv[2]\nt = pa.table(" +
              columns +
              ")\n"
              "if path.endswith('.parquet'): pq.write_table(t, path, row_group_size=2)\n"
              "elif path.endswith('.feather'):\n  with pa.ipc.new_file(path, t.schema) as f: f.write_table(t)\n"
              "else:\n  with pa.ipc.new_stream(path, t.schema) as f: f.write_table(t)\n");
    EXPECT_EQ(
        std::system(
            text("python3 -I -S -B ", (folder_ / "make.py").string(), " ", kPackages.string(), " ", path).c_str()),
        0);
    return path;
  }
  Dataset read_paths(Method method, const std::string& path, DataOptions options = {}) const {
    options.path = {path};
    NullLog log;
    return read_dataset(options, method, *tokenizer_, log);
  }
  std::string refusal(Method method, const std::string& path, DataOptions options = {}) const {
    std::string what = test::error_of<DataError>([&] { read_paths(method, path, std::move(options)); });
    for (size_t at; (at = what.find(folder_.string() + "/")) != std::string::npos;)
      what.erase(at, folder_.string().size() + 1);
    return what;
  }
};

TEST_F(Tables, PromptsKeepAllTheirColumns) {
  const std::string path = write_table("prompts.parquet",
                                       "{'prompt': ['2+2=', '3+4=', None], 'prompt_ids': [None, None, [5, 6]],"
                                       " 'answer': [4, 7, None], 'tags': [['a'], [], ['b', 'c']]}");
  const std::vector<PromptRow> rows = read_prompts({.path = {path}}, *tokenizer_);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].token, (std::vector<int32_t>{'2', '+', '2', '='}));
  EXPECT_EQ(rows[1].columns, R"({"answer":7,"tags":[]})");
  EXPECT_EQ(rows[2].token, (std::vector<int32_t>{5, 6}));
  EXPECT_EQ(rows[2].columns, R"({"tags":["b","c"]})");
  const std::string bad = write_table("bad.parquet", "{'prompt': ['a', None]}");
  const std::string what = test::error_of<DataError>([&] { read_prompts({.path = {bad}}, *tokenizer_); });
  EXPECT_NE(what.find("bad.parquet: row 2: a row has one of prompt_ids and prompt"), std::string::npos) << what;
}

void expect_same(const Dataset& a, const Dataset& b) {
  ASSERT_EQ(a.group.size(), b.group.size());
  for (size_t g = 0; g < a.group.size(); ++g) {
    ASSERT_EQ(a.group[g].sample.size(), b.group[g].sample.size());
    EXPECT_EQ(a.group[g].margin, b.group[g].margin);
    EXPECT_EQ(a.group[g].weight, b.group[g].weight);
    for (size_t s = 0; s < a.group[g].sample.size(); ++s) {
      EXPECT_EQ(a.group[g].sample[s].token, b.group[g].sample[s].token);
      EXPECT_EQ(a.group[g].sample[s].target, b.group[g].sample[s].target);
      EXPECT_EQ(a.group[g].sample[s].reward, b.group[g].sample[s].reward);
      EXPECT_EQ(a.group[g].sample[s].old_logp, b.group[g].sample[s].old_logp);
    }
  }
}

TEST_F(Tables, AreTheJsonLinesThatSayTheSame) {
  const Dataset lines = read(Method::kReward,
                             "{\"prompt\": \"p\", \"chosen\": \"\xC3\xA9\", \"rejected\": \"r\", \"margin\": 0.5}\n"
                             "{\"prompt\": \"q\", \"chosen\": \"c\\n\", \"rejected\": \"\", \"weight\": 2}\n"
                             "{\"prompt\": \"q\", \"chosen\": \"d\", \"rejected\": \"\"}\n");
  const std::string columns =
      "{'prompt': pa.array(['p', 'q', 'q']).dictionary_encode(), 'chosen': pa.array(['\\u00e9', 'c\\n', 'd'], "
      "pa.large_string()), "
      "'rejected': ['r', '', ''], 'margin': [0.5, None, None], 'weight': pa.array([None, 2, None], pa.int8()), "
      "'image': [b'\\xff', None, b''], 'when': [1, 2, 3]}";
  for (const char* name : {"t.parquet", "t.feather", "t.arrow"}) {
    SCOPED_TRACE(name);
    expect_same(read_paths(Method::kReward, write_table(name, columns)), lines);
  }
}

TEST_F(Tables, HaveListsAndStructsWhoseNullsAreNotThere) {
  const Dataset lines =
      read(Method::kGrpo,
           "{\"prompt_ids\": [1, 2], \"completions\": [{\"ids\": [3], \"reward\": 1, \"old_logps\": [-0.5]}, "
           "{\"ids\": [], \"reward\": 0.25, \"old_logps\": []}]}");
  const std::string path = write_table(
      "t.parquet",
      "{'prompt_ids': [[1, 2]], 'completions': [[{'ids': [3], 'reward': 1.0, 'old_logps': [-0.5], 'mask': None}, "
      "{'ids': [], 'reward': 0.25, 'old_logps': [], 'mask': None}]]}");
  expect_same(read_paths(Method::kGrpo, path), lines);
  EXPECT_EQ(refusal(Method::kSft, write_table("n.parquet", "{'input_ids': [[1, None]], 'labels': [[1, 2]]}")),
            "n.parquet: row 1: wrong type: expected an integer token id");
}

TEST_F(Tables, NameRowsAndColumnsInErrors) {
  const std::string path = write_table("t.parquet", "{'prompt': ['a', 'b', None], 'completion': ['c', 'd', 'e']}");
  test::expect_words(refusal(Method::kSft, path), {"t.parquet: row 3: missing column 'prompt'"});
  DataOptions skip;
  skip.on_error = OnError::kSkip;
  const Dataset rest = read_paths(Method::kSft, path, skip);
  EXPECT_EQ(rest.group.size(), 2U);
  EXPECT_TRUE(rest.where(1).ends_with("t.parquet: row 2")) << rest.where(1);
  test::expect_words(refusal(Method::kSft, write_table("b.parquet", "{'prompt': ['a'], 'completion': [b'c']}")),
                     {"b.parquet: the table cannot be read: ", "column 'completion' holds values of the type binary"});
  test::expect_words(refusal(Method::kReward, write_table("f.parquet",
                                                          "{'prompt': ['a'], 'chosen': ['b'], 'rejected': ['c'], "
                                                          "'margin': [float('nan')]}")),
                     {"f.parquet: row 1: a number that is not finite"});
  test::expect_words(refusal(Method::kSft, write("no.parquet", "nonsense")), {"no whole Parquet or Arrow IPC file"});
  test::expect_words(refusal(Method::kSft, write_table("e.parquet", "{'text': pa.array([], pa.string())}")),
                     {"e.parquet:1:1: the file has no rows"});
}

TEST_F(Tables, OfAFolderAndWithOtherNamesAreCachedAsWell) {
  fs::create_directory(folder_ / "all");
  write_table("all/1.parquet", "{'question': ['q'], 'more': ['m'], 'answer': ['a']}");
  write("all/2.jsonl", R"({"question": "r", "answer": "b"})");
  DataOptions options;
  options.columns = {{"prompt", "question + more"}, {"completion", "answer"}};
  const Dataset data = read_paths(Method::kSft, (folder_ / "all").string(), options);
  ASSERT_EQ(data.group.size(), 2U);
  EXPECT_EQ(data.group[0].sample[0].token, (std::vector<int32_t>{'q', '\n', 'm', 'a', 256}));
  options.path = {(folder_ / "all").string()};
  EXPECT_TRUE(begins_with_text(options, Method::kSft));
}

class NoPyarrow : public Tables {
  void SetUp() override {}
};

TEST_F(NoPyarrow, IsAnErrorWithTheCommand) {
  if (fs::exists(kPackages / "pyarrow")) GTEST_SKIP() << "pyarrow is there";
  test::expect_words(refusal(Method::kSft, write("t.parquet", "PAR1")),
                     {"t.parquet: the table cannot be read: exit code 1", "run launch/setup.sh --with-parquet"});
}

}  // namespace
}  // namespace fpdist::data
