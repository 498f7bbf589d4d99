#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "tests/checkpoint/expect_holds.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using test::contains, test::error_of, test::expect_holds, test::FileSizeLimit, test::names_in, test::Scratch,
    test::slurp, test::spill;

NamedTensors some_tensors() {
  NamedTensors tensors;
  for (int i = 0; i < 7; ++i) tensors.emplace_back("layer." + std::to_string(i), at::randn({i + 1, 8}));
  return tensors;
}

TEST(HfExport, OneFileWhenItFits) {
  const Scratch scratch;
  const auto tensors = some_tensors();
  export_hf_directory(scratch / "out/", tensors, {.config_json = "{\"a\": 1}"});
  EXPECT_EQ(names_in(scratch / "out"), (std::vector<std::string>{"config.json", "model.safetensors"}));
  EXPECT_EQ(slurp(scratch / "out/config.json"), "{\"a\": 1}");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"out"});
  expect_holds(scratch / "out", tensors);
}

TEST(HfExport, ShardsAndTheirIndexAddUp) {
  const Scratch scratch;
  const auto tensors = some_tensors();  // 32 bytes a row, 28 rows; the last two exceed 200 bytes alone
  export_hf_directory(scratch / "out", tensors, {.config_json = "{}", .max_shard_bytes = 200});
  const auto index = nlohmann::json::parse(slurp(scratch / "out/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 28 * 32);
  EXPECT_EQ(index["weight_map"].size(), 7u);
  EXPECT_EQ(index["weight_map"]["layer.0"], "model-00001-of-00005.safetensors");
  EXPECT_EQ(index["weight_map"]["layer.6"], "model-00005-of-00005.safetensors");
  expect_holds(scratch / "out", tensors);
}

TEST(HfExport, TokenizerFilesAreCopiedByteForByte) {
  const Scratch scratch;
  const std::string bytes("a\0\r\nb\xff", 6);
  std::filesystem::create_directories(scratch / "in/tokenizer_folder");
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "merges.txt",
        "README.md", "special_tokens_map.json", "generation_config.json", "chat_template.jinja", "pytorch_model.bin"})
    spill(scratch / ("in/" + std::string(name)), bytes);
  spill(scratch / "blob", "linked");
  ASSERT_EQ(::symlink((scratch / "blob").c_str(), (scratch / "in/added_tokens.json").c_str()), 0);  // as hub caches do
  export_hf_directory(scratch / "out", some_tensors(), {.config_json = "{}", .copy_from = scratch / "in"});
  EXPECT_EQ(
      names_in(scratch / "out"),
      (std::vector<std::string>{"added_tokens.json", "chat_template.jinja", "config.json", "generation_config.json",
                                "merges.txt", "model.safetensors", "special_tokens_map.json", "spiece.model",
                                "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json"}));
  EXPECT_EQ(slurp(scratch / "out/merges.txt"), bytes);
  EXPECT_EQ(slurp(scratch / "out/added_tokens.json"), "linked");
  EXPECT_THROW(
      export_hf_directory(scratch / "out2", some_tensors(), {.config_json = "{}", .copy_from = scratch / "none"}),
      ModelFileError);
  EXPECT_FALSE(std::filesystem::exists(scratch / "out2.tmp"));
}

TEST(HfExport, NamedChatTemplatesGoAlongAndAway) {
  const Scratch scratch;
  const std::string bytes("{{ messages }}\r\n\0\xff", 18), folder = "additional_chat_templates";
  std::filesystem::create_directories(scratch / ("in/" + folder) + "/deep");
  for (const char* name : {"rag.jinja", "tool_use.jinja", "notes.md", "deep/x.jinja"})
    spill(scratch / ("in/" + folder) + "/" + name, bytes);
  const auto templates = [&](const std::string& of) { return names_in(scratch / of + "/" + folder); };
  for (int turn = 0; turn < 2; ++turn) {  // anew, and over an older export
    export_hf_directory(scratch / "out", some_tensors(), {.config_json = "{}", .copy_from = scratch / "in"});
    EXPECT_EQ(templates("out"), (std::vector<std::string>{"rag.jinja", "tool_use.jinja"}));
    EXPECT_EQ(slurp(scratch / "out/additional_chat_templates/rag.jinja"), bytes);
    EXPECT_EQ(names_in(scratch.path()), (std::vector<std::string>{"in", "out"}));
    spill(scratch / "out/additional_chat_templates/rag.jinja", "older");
  }
  spill(scratch / "out/additional_chat_templates/mine.txt", "mine");
  remove_hf_export(scratch / "out", [](const std::string& file) { return contains(file, "rag.jinja"); });
  EXPECT_EQ(templates("out"), (std::vector<std::string>{"mine.txt", "rag.jinja"}));
  std::filesystem::remove(scratch / "out/additional_chat_templates/mine.txt");
  remove_hf_export(scratch / "out");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"in"});
  std::filesystem::create_directories(scratch / "out.tmp/additional_chat_templates");
  spill(scratch / "out.tmp/additional_chat_templates/rag.jinja.tmp", "of a killed export");
  export_hf_directory(scratch / "out", some_tensors(), {.config_json = "{}"});
  EXPECT_EQ(names_in(scratch.path()), (std::vector<std::string>{"in", "out"}));
}

TEST(HfExport, AnOlderExportIsReplacedAndOtherFilesStay) {
  const Scratch scratch;
  auto tensors = some_tensors();
  export_hf_directory(scratch / "out", tensors, {.config_json = "{}", .max_shard_bytes = 200});
  spill(scratch / "out/notes.txt", "mine");
  tensors.pop_back();
  export_hf_directory(scratch / "out", tensors, {.config_json = "{\"b\": 2}"});
  EXPECT_EQ(names_in(scratch / "out"), (std::vector<std::string>{"config.json", "model.safetensors", "notes.txt"}));
  expect_holds(scratch / "out", tensors);
}

TEST(HfExport, SomebodysOwnFolderWhereItWouldBeBuiltStays) {
  const Scratch scratch;
  std::filesystem::create_directories(scratch / "out.tmp/below");
  std::filesystem::create_directories(scratch / "mine");
  for (const char* name : {"out.tmp/notes.txt", "out.tmp/below/config.json", "mine/model.safetensors", "out.2.tmp"})
    spill(scratch / name, "mine");
  std::filesystem::create_directory_symlink("mine", scratch / "out.1.tmp");
  spill(scratch / "out.tmp/model-00001-of-00002.safetensors.tmp", "of a killed export");
  const auto tensors = some_tensors();
  for (int turn = 0; turn < 2; ++turn) export_hf_directory(scratch / "out/", tensors, {.config_json = "{}"});
  expect_holds(scratch / "out", tensors);
  EXPECT_EQ(names_in(scratch.path()), (std::vector<std::string>{"mine", "out", "out.1.tmp", "out.2.tmp", "out.tmp"}));
  EXPECT_EQ(names_in(scratch / "out.tmp"), (std::vector<std::string>{"below", "notes.txt"}));
  for (const char* name : {"out.tmp/below/config.json", "mine/model.safetensors", "out.2.tmp"})
    EXPECT_EQ(slurp(scratch / name), "mine") << name;
}

TEST(HfExport, AFullDiskLeavesNothingOfItBehind) {
  const Scratch scratch;
  std::string what;
  {
    const FileSizeLimit limit(4 << 10);
    const NamedTensors tensors{{"small", at::ones({8})}, {"large", at::ones({4096})}};
    what = error_of<DiskError>(
        [&] { export_hf_directory(scratch / "out", tensors, {.config_json = "{}", .max_shard_bytes = 64}); });
  }
  EXPECT_TRUE(contains(what, "model-00002-of-00002.safetensors")) << what;
  EXPECT_TRUE(names_in(scratch.path()).empty());
  spill(scratch / "file", "");
  EXPECT_THROW(export_hf_directory(scratch / "file/out", some_tensors(), {.config_json = "{}"}), DiskError);
}

}  // namespace
}  // namespace fpdist::checkpoint
