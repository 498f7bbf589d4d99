#include "src/config/inputs.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/files/scratch.hpp"

namespace fpdist::config {
namespace {

TEST(ConfigInputs, AreAllFilesThatARunReads) {
  const test::Scratch scratch;
  const auto put = [&](const std::string& name) {
    std::filesystem::create_directories(std::filesystem::path(scratch / name).parent_path());
    test::spill(scratch / name, "x");
    return scratch / name;
  };
  Config config;
  config.data.path = {put("rows.jsonl"), scratch / "folder", scratch / "part-*", scratch / "none", scratch / "no*ne"};
  config.data.eval_path = {put("eval.jsonl")};
  config.plan.costs = put("costs.yaml"), config.eval.kv_profile = put("kv.json");
  config.model.path = scratch / "model", config.model.ref_path = scratch / "reference";
  config.data.tokenizer = scratch / "tokenizer";
  config.train.output_dir = scratch / "run/";
  for (const char* name : {"folder/a.jsonl", "folder/b.json.gz", "part-1.jsonl", "part-2.jsonl.zst",
                           "model/config.json", "reference/model.safetensors", "tokenizer/tokenizer.json",
                           "model/additional_chat_templates/rag.jinja", "run.tokens/0.tokens", "elsewhere/0.tokens"})
    put(name);
  put("folder/notes.txt"), put("run/metrics.jsonl");
  const auto what = [&](const char* name) {
    const std::string input = inputs_of(config).at(scratch / name);
    return input.substr(0, input.find(' '));
  };
  for (const char* name : {"rows.jsonl", "folder/a.jsonl", "folder/b.json.gz", "part-1.jsonl", "part-2.jsonl.zst"})
    EXPECT_EQ(what(name), "data.path") << name;
  EXPECT_EQ(what("eval.jsonl"), "data.eval_path");
  EXPECT_EQ(what("costs.yaml"), "plan.costs");
  EXPECT_EQ(what("kv.json"), "eval.kv_profile");
  EXPECT_EQ(what("model/config.json"), "model.path");
  EXPECT_EQ(what("model/additional_chat_templates/rag.jinja"), "model.path");
  EXPECT_EQ(what("reference/model.safetensors"), "model.ref_path");
  EXPECT_EQ(what("tokenizer/tokenizer.json"), "data.tokenizer");
  EXPECT_EQ(what("run.tokens/0.tokens"), "data.cache_dir");
  for (const char* name : {"folder/notes.txt", "run/metrics.jsonl", "elsewhere/0.tokens"}) EXPECT_EQ(what(name), "");
  config.data.cache_dir = scratch / "elsewhere";
  EXPECT_EQ(what("elsewhere/0.tokens"), "data.cache_dir");
  config.data.cache_dir = "none";
  for (const char* name : {"elsewhere/0.tokens", "run.tokens/0.tokens"}) EXPECT_EQ(what(name), "");
}

}  // namespace
}  // namespace fpdist::config
