// Valid lines, mutated at random: the reader answers with a DataError or a valid data set, never otherwise, and what it
// accepts is JSON to an independent parser (nlohmann).

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/data/reader.hpp"
#include "tests/data/rows/reader_fixture.hpp"

namespace fpdist::data {
namespace {

using test::ReaderTest;

struct Seed {
  Method method;
  std::string line;
};

const std::vector<Seed>& seeds() {
  static const std::vector<Seed> all{
      {Method::kSft, R"({"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "x": {"a": [true, null, -1.5e3, "s"]}})"},
      {Method::kSft, R"({"prompt": "caf\u00e9 \"q\"\n", "completion": "über"})"},
      {Method::kDpo, R"({"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [], "margin": 0.5})"},
      {Method::kReward, R"({"prompt": "p", "chosen": "c", "rejected": "r", "margin": 1})"},
      {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"ids": [1, 2], "reward": 1.0, "old_logps": [-0.5, -1], )"
                      R"("mask": [0, 1]}, {"ids": [], "reward": 0, "old_logps": [], "mask": []}]})"},
      {Method::kSft, R"({"text": "t\\u00e9", "uid": "u", "truncated": false})"},
      {Method::kSft, R"({"messages": [{"role": "user", "content": [{"type": "text"}]}], "tools": [{"a": {"b": [1]}}], )"
                     R"("chat_template_kwargs": {"x": null}})"},
      {Method::kDpo,
       R"({"chosen": [{"from": "human", "value": "a"}], "rejected": [{"role": "user", "content": "b"}]})"},
      {Method::kDpo, R"({"chosen": "ab c", "rejected": "ab d", "tools": "[1]"})"},
      {Method::kGrpo, R"({"prompt": "p", "completions": ["a", "b"], "rewards": [0, 1]})"}};
  return all;
}

std::string mutate(std::string line, Rng& rng) {
  static const std::string kAlphabet = "{}[]\",:0123456789.-+eE\\utrfalsn \t\r\x01\xC3\xFF";
  for (uint64_t times = 1 + rng.below(3); times > 0 && !line.empty(); --times) {
    const size_t at = rng.below(line.size()), count = 1 + rng.below(6);
    const char other = rng.below(30) == 0 ? '\0' : kAlphabet[rng.below(kAlphabet.size())];
    switch (rng.below(6)) {
      case 0:
        line[at] = other;
        break;
      case 1:
        line.insert(at, 1, other);
        break;
      case 2:
        line.erase(at, count);
        break;
      case 3:
        line.insert(at, line.substr(rng.below(line.size()), count * 3));
        break;
      case 4:
        line.resize(at);
        break;
      default:
        line[at] = static_cast<char>(line[at] ^ (1 << rng.below(8)));
    }
  }
  return line;
}

void expect_valid(const Dataset& dataset) {
  ASSERT_FALSE(dataset.group.empty());
  for (size_t g = 0; g < dataset.group.size(); ++g) {
    EXPECT_EQ(dataset.group[g].id, static_cast<int64_t>(g));
    ASSERT_FALSE(dataset.group[g].sample.empty());
    for (const Sample& sample : dataset.group[g].sample) {
      EXPECT_EQ(sample.target.size(), sample.token.size());
      EXPECT_TRUE(sample.old_logp.empty() || sample.old_logp.size() == sample.token.size());
      for (const int32_t id : sample.token) EXPECT_GE(id, 0);
      for (const int32_t id : sample.target) EXPECT_TRUE(id >= 0 || id == kIgnore);
    }
  }
}

bool is_json_lines(const std::string& bytes) {
  size_t begin = bytes.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  while (begin < bytes.size()) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    const std::string line = bytes.substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") != std::string::npos && !nlohmann::json::accept(line)) return false;
  }
  return true;
}

TEST_F(ReaderTest, MutatedLinesAreRefusedOrValidNeverACrash) {
  int accepted = 0, refused = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 0xf022);
    const Seed& start = seeds()[rng.below(seeds().size())];
    const std::string line = mutate(start.line, rng);
    try {
      expect_valid(read(start.method, line));
      ++accepted;
      EXPECT_TRUE(is_json_lines(line)) << "accepted what is no JSON: " << line;
    } catch (const DataError& error) {
      ++refused;
      EXPECT_NE(std::string(error.what()).find("rows.jsonl:1:"), std::string::npos) << error.what();
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(accepted, 30);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace fpdist::data
