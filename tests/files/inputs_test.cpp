#include "src/files/inputs.hpp"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>

#include "fpdist/core/error.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::files {
namespace {

namespace fs = std::filesystem;
using test::Scratch, test::spill;

TEST(Inputs, AFileIsThatFileByAnyName) {
  const Scratch scratch;
  fs::create_directories(scratch / "data/deep");
  spill(scratch / "data/rows.jsonl", "x");
  spill(scratch / "data/other.jsonl", "x");
  Inputs inputs;
  inputs.add("data.path", scratch / "data/rows.jsonl");
  fs::create_symlink(scratch / "data/rows.jsonl", scratch / "link");
  fs::create_symlink("link", scratch / "link_to_link");
  fs::create_directory_symlink(scratch / "data", scratch / "folder");
  fs::create_hard_link(scratch / "data/rows.jsonl", scratch / "second_name");
  for (const char* name : {"data/rows.jsonl", "./data/rows.jsonl", "data//rows.jsonl", "data/deep/../rows.jsonl",
                           "link", "link_to_link", "folder/rows.jsonl", "folder/deep/../rows.jsonl", "second_name"})
    EXPECT_EQ(inputs.at(scratch / name), "data.path " + (scratch / "data/rows.jsonl")) << name;
  const fs::path before = fs::current_path();
  fs::current_path(scratch / "data/deep");
  EXPECT_NE(inputs.at("../rows.jsonl"), "");
  fs::current_path(before);
  for (const char* name : {"data/other.jsonl", "data", "none", ""}) EXPECT_EQ(inputs.at(scratch / name), "") << name;
  EXPECT_EQ(inputs.at(""), "");
}

TEST(Inputs, AFolderGivesItsOwnFiles) {
  const Scratch scratch;
  fs::create_directories(scratch / "model/below");
  spill(scratch / "model/config.json", "x");
  spill(scratch / "blob", "x");
  spill(scratch / "model/below/rows.jsonl", "x");
  fs::create_symlink("../blob", scratch / "model/model.safetensors");  // as hub caches do
  Inputs inputs;
  inputs.add_folder("model.path", scratch / "model");
  inputs.add_folder("model.path", scratch / "none");
  for (const char* name : {"model/config.json", "blob"}) EXPECT_NE(inputs.at(scratch / name), "") << name;
  for (const char* name : {"model/below/rows.jsonl", "model"}) EXPECT_EQ(inputs.at(scratch / name), "") << name;
  test::expect_words(
      test::error_of<ConfigError>([&] { inputs.check_spared(scratch / "blob", "take another"); }),
      {"blob would be written over, and model.path ", "model/model.safetensors is that file: take another"});
  inputs.check_spared(scratch / "model/new.json", "");
}

TEST(Inputs, AMountShowsTheSameFiles) {
  const Scratch scratch;
  fs::create_directories(scratch / "data");
  fs::create_directories(scratch / "mounted");
  spill(scratch / "data/rows.jsonl", "x");
  if (::mount((scratch / "data").c_str(), (scratch / "mounted").c_str(), nullptr, MS_BIND, nullptr) != 0)
    GTEST_SKIP() << "SKIPPED: nothing may be mounted here";
  Inputs inputs;
  inputs.add("data.path", scratch / "data/rows.jsonl");
  EXPECT_NE(inputs.at(scratch / "mounted/rows.jsonl"), "");
  ::umount((scratch / "mounted").c_str());
}

}  // namespace
}  // namespace fpdist::files
