// What transformers and TRL made of the same lines, conversations and rows (tests/golden/text).

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/data/source/prefix_units.hpp"
#include "tests/support/files/scratch.hpp"

namespace fpdist::data {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int32_t>;
namespace fs = std::filesystem;

const fs::path kFolder = fs::path(FPDIST_SOURCE_DIR) / "tests/golden/text";

const Json& golden() {
  static const Json read = Json::parse(std::ifstream(kFolder / "golden.json"));
  return read;
}

std::unique_ptr<Tokenizer> open(const std::string& name) {
  return make_worker_tokenizer({.directory = (kFolder / name).string(), .workers = 2});
}

TEST(TextGolden, EveryLineHasTheTokensOfAutoTokenizer) {
  std::vector<TextRequest> lines;
  for (const Json& line : golden()["lines"]) lines.push_back({.text = line.get<std::string>()});
  for (const auto& [name, expected] : golden()["ids"].items()) {
    SCOPED_TRACE(name);
    const auto encoded = open(name)->encode(lines);
    ASSERT_EQ(encoded.size(), lines.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      EXPECT_EQ(encoded[i].error, "") << lines[i].text;
      EXPECT_EQ(encoded[i].id, expected[i].get<Ids>()) << lines[i].text;
    }
  }
}

TEST(TextGolden, WhatTokensStandForIsTheTextThatTheyDecodeTo) {
  const auto without_blanks = [](std::string line) {  // SentencePiece's texts begin with one, which decoding takes away
    std::erase(line, ' ');
    return line;
  };
  for (const auto& [name, expected] : golden()["ids"].items()) {
    SCOPED_TRACE(name);
    const auto tokenizer = open(name);
    const std::vector<std::string> bytes = tokenizer->token_bytes();
    ASSERT_EQ(bytes.size(), static_cast<size_t>(tokenizer->facts().vocab_size));
    std::vector<Ids> all;
    for (const Json& ids : expected) {
      all.push_back(ids.get<Ids>());
      std::erase(all.back(), tokenizer->facts().bos_id);
      std::erase(all.back(), tokenizer->facts().eos_id);
    }
    const auto decoded = tokenizer->decode(all);
    size_t same = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      std::string line;
      for (const int32_t id : all[i]) line += bytes[static_cast<size_t>(id)];
      same += without_blanks(line) == without_blanks(decoded[i].text);
    }
    EXPECT_GE(10 * same, 7 * all.size()) << "all but lines with characters that the vocabulary has not";
    if (name == "qwen" || name == "llama3") {
      EXPECT_EQ(same, all.size()) << "bytes have them all";
    }
  }
  EXPECT_EQ(make_byte_tokenizer()->token_bytes().at(200), "\xc8");
  EXPECT_EQ(make_byte_tokenizer()->token_bytes().at(256), "");
}

TEST(TextGolden, ConversationsRenderAsApplyChatTemplateRendersThem) {
  const test::Scratch scratch;
  for (const auto& [name, source] : golden()["templates"].items()) {
    SCOPED_TRACE(name);
    const fs::path folder = fs::path(scratch.path()) / name;
    fs::copy(kFolder / "llama3", folder);
    std::ofstream(folder / "chat_template.jinja") << source.get<std::string>();
    const auto tokenizer = make_worker_tokenizer({.directory = folder.string()});
    for (const Json& expected : golden()["rendered"]) {
      if (expected["template"] != name) continue;
      const TextRequest chat{.kind = TextRequest::Kind::kChat,
                             .text = golden()["chats"][expected["chat"].get<size_t>()].dump(),
                             .generation_prompt = expected["generation_prompt"]};
      const RenderedText rendered = tokenizer->render(std::span(&chat, 1)).at(0);
      EXPECT_EQ(rendered.error.empty() ? rendered.text : "error: " + rendered.error, expected["text"]);
    }
  }
}

Method method_of(const std::string& name) {
  // A kto row's tokens are those of an sft row with a prompt; its label, which is the loss's, is left out.
  return name == "kto" ? Method::kSft : method_from_name(name);
}

DataOptions options_of(const Json& given) {
  DataOptions options;
  options.max_length = given.value("max_length", int64_t{1024});
  options.completion_only_loss = given.value("completion_only_loss", true);
  options.assistant_only_loss = given.value("assistant_only_loss", false);
  if (given.value("truncation_mode", "keep_start") == "keep_end") options.truncation_mode = Truncation::kKeepEnd;
  return options;
}

void expect_groups(const Dataset& read, const Json& expected) {
  ASSERT_EQ(read.group.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(read.group[i].sample.size(), expected[i].size());
    for (size_t s = 0; s < expected[i].size(); ++s) {
      EXPECT_EQ(read.group[i].sample[s].token, expected[i][s][0].get<Ids>()) << "row " << i << " sample " << s;
      if (expected[i][s][1].is_null()) continue;
      EXPECT_EQ(read.group[i].sample[s].target, expected[i][s][1].get<Ids>()) << "row " << i << " sample " << s;
    }
  }
}

TEST(TextGolden, RowsBecomeTheIdsAndLabelsOfTrl) {
  const test::Scratch scratch;
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  NullLog log;
  for (const Json& one : golden()["cases"]) {
    const std::string rows = one["rows"], name = one["tokenizer"];
    SCOPED_TRACE(text(one["method"], " ", rows, " ", name, " ", one["options"]));
    DataOptions options = options_of(one["options"]);
    options.path = {(fs::path(scratch.path()) / "rows.jsonl").string()};
    if (one["method"] == "kto") options.columns = {{"label", "none"}};
    std::ofstream file(options.path[0]);
    for (const Json& row : golden()["rows"][rows]) file << row << '\n';
    file.close();
    auto& tokenizer = tokenizers[name];
    if (!tokenizer) tokenizer = open(name);
    expect_groups(read_dataset(options, method_of(one["method"]), *tokenizer, log), one["groups"]);
  }
}

/// Distinct prefixes of the sequences: the nodes of their trie, counted one by one.
size_t trie_nodes(const std::vector<Group>& groups) {
  std::map<std::pair<size_t, int32_t>, size_t> child;
  for (const Group& group : groups)
    for (const Sample& sample : group.sample) {
      size_t node = 0;
      for (const int32_t token : sample.token) node = child.try_emplace({node, token}, child.size() + 1).first->second;
    }
  return child.size();
}

TEST(RealConversations, RolloutsOfATaskAreOneGroupAndLearnWhatTheAgentSays) {
  const fs::path file = fs::path(FPDIST_SOURCE_DIR) / "../shared/data/tau_airline.jsonl";
  if (!fs::exists(file)) GTEST_SKIP() << "no " << file << ": real rollouts are not read";
  DataOptions options;
  options.path = {file.string()};
  options.columns = {{"uid", "task_id"}};
  options.group_by = GroupBy::kUid;
  options.max_length = 1 << 20;
  NullLog log;
  const auto tokenizer = open("qwen");
  const Dataset read = read_dataset(options, Method::kGrpo, *tokenizer, log);
  ASSERT_EQ(read.group.size(), 50U);
  double tokens = 0;
  for (const Group& group : read.group) {
    EXPECT_EQ(group.sample.size(), 4U);
    for (const Sample& sample : group.sample) tokens += static_cast<double>(sample.length());
  }
  EXPECT_DOUBLE_EQ(sharing_of(read.group), tokens / static_cast<double>(trie_nodes(read.group)));

  std::ifstream lines(file);
  std::string line;
  std::getline(lines, line);
  std::string said;
  const Json row = Json::parse(line);
  for (const Json& message : row["messages"])
    if (message["role"] == "assistant") {
      if (message["content"].is_string()) said += message["content"].get<std::string>();
      said += "<|im_end|>";
    }
  const Sample& first = read.group[0].sample[0];
  std::vector<std::vector<int32_t>> learned(1);
  for (const int32_t id : first.target)
    if (id != kIgnore) learned[0].push_back(id);
  // Calls have a line of their own; its first newline may be one token with what opens the turn.
  const std::string decoded =
      std::regex_replace(tokenizer->decode(learned).at(0).text, std::regex("\n+<call>.*?</call>"), "");
  EXPECT_EQ(decoded, said);
}

}  // namespace
}  // namespace fpdist::data
