#include "src/files/files.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "fpdist/core/error.hpp"
#include "src/files/folders.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::files {
namespace {

using test::contains, test::error_of, test::expect_words, test::FileSizeLimit, test::names_in, test::Scratch,
    test::slurp, test::spill;

namespace fs = std::filesystem;
using Open = AppendFile::Open;

void expect_full(const std::string& what, const std::string& path) {
  for (const std::string& part : {path, std::string("disk full"), std::string("free space")})
    EXPECT_TRUE(contains(what, part)) << what;
}

TEST(WholeFiles, AreReplacedWhole) {
  const Scratch scratch;
  write(scratch / "a", "first, and longer");
  write(scratch / "a", "second\n");
  EXPECT_EQ(slurp(scratch / "a"), "second\n");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"a"});
}

TEST(WholeFiles, WithoutACommitNothingChanges) {
  const Scratch scratch;
  write(scratch / "a", "kept");
  { AtomicFile(scratch / "a").append("lost", 4); }
  EXPECT_EQ(slurp(scratch / "a"), "kept");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"a"});
}

TEST(WholeFiles, AFullDiskLeavesWhatWasThere) {
  const Scratch scratch;
  write(scratch / "a", "kept");
  {
    const FileSizeLimit limit(1000);
    expect_full(error_of<DiskError>([&] { write(scratch / "a", std::string(2000, 'x')); }), "/a");
  }
  EXPECT_EQ(slurp(scratch / "a"), "kept");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"a"});
}

TEST(WholeFiles, WhatIsCalledLikeTheTemporaryOneStays) {
  const Scratch scratch;
  test::spill(scratch / "a.tmp", "mine");
  test::spill(scratch / "mine", "too");
  fs::create_symlink("mine", scratch / "a.1.tmp");
  write(scratch / "a", "new");
  EXPECT_EQ(slurp(scratch / "a"), "new");
  EXPECT_EQ(slurp(scratch / "a.tmp"), "mine");
  EXPECT_EQ(slurp(scratch / "mine"), "too");
  { AtomicFile(scratch / "a").append("lost", 4); }
  EXPECT_EQ(names_in(scratch.path()), (std::vector<std::string>{"a", "a.1.tmp", "a.tmp", "mine"}));
}

TEST(WholeFiles, WhatIsNoRegularFileIsWrittenAsItIs) {
  const std::string what = error_of<DiskError>([] { write(test::kFullDevice, "x"); });
  expect_full(what, test::kFullDevice);
  EXPECT_TRUE(contains(what, "No space left on device")) << what;
  EXPECT_TRUE(fs::is_character_file(test::kFullDevice)) << "a rename would have replaced it";
  EXPECT_FALSE(fs::exists(test::kFullDevice + ".tmp"));
  write("/dev/null", "x");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST(WholeFiles, ALinkIsFollowed) {
  const Scratch scratch;
  write(scratch / "target", "old");
  fs::create_symlink("target", scratch / "link");
  write(scratch / "link", "new");
  EXPECT_TRUE(fs::is_symlink(scratch / "link"));
  EXPECT_EQ(slurp(scratch / "target"), "new");
  fs::create_symlink(test::kFullDevice, scratch / "full");
  expect_full(error_of<DiskError>([&] { write(scratch / "full", "x"); }), "/full");
}

TEST(WholeFiles, AMissingFolderNamesTheReasonAndTheCure) {
  const Scratch scratch;
  const std::string what = error_of<DiskError>([&] { write(scratch / "none/a", "x"); });
  for (const char* part : {"cannot write ", "none/a: No such file or directory", "check the path and its permissions"})
    EXPECT_TRUE(contains(what, part)) << what;
}

TEST(WholeFiles, ASmallDiskFillsUp) {
  const Scratch scratch;
  const test::SmallDisk disk(scratch.path(), 64);
  if (!disk.is_there()) GTEST_SKIP() << "SKIPPED: no small file system may be mounted here";
  write(scratch / "a", std::string(16000, 'a'));
  expect_full(error_of<DiskError>([&] { write(scratch / "a", std::string(80000, 'b')); }), "/a");
  EXPECT_EQ(slurp(scratch / "a"), std::string(16000, 'a'));
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"a"});
}

TEST(WholeFiles, WhatOthersWroteIsSynced) {
  const Scratch scratch;
  sync(scratch / "none");
  spill(scratch / "file", "x");
  sync(scratch / "file");
  EXPECT_EQ(slurp(scratch / "file"), "x");
  sync("/dev/null");
  expect_words(error_of<DiskError>([&] { sync(scratch / "file/below"); }), {"file/below: flushing it: ", "folder"});
}

TEST(Folders, AreNewOrSomebodysOwn) {
  const Scratch scratch;
  EXPECT_TRUE(make_new_folder(scratch / "folder"));
  EXPECT_FALSE(make_new_folder(scratch / "folder"));
  spill(scratch / "file", "x");
  EXPECT_FALSE(make_new_folder(scratch / "file"));
  expect_words(error_of<DiskError>([&] { make_new_folder(scratch / "none/below"); }), {"none/below: making it: "});
}

TEST(GrowingFiles, StartEmptyOrGoOn) {
  const Scratch scratch;
  AppendFile(scratch / "a", Open::kGoOn).line("one");
  AppendFile(scratch / "a", Open::kGoOn).line("two");
  EXPECT_EQ(slurp(scratch / "a"), "one\ntwo\n");
  AppendFile again(scratch / "a", Open::kEmpty);
  again.line("");
  again.close();
  EXPECT_EQ(slurp(scratch / "a"), "\n");
}

TEST(GrowingFiles, ALineIsThereWhenItIsWritten) {
  const Scratch scratch;
  AppendFile file(scratch / "a", Open::kEmpty);
  file.line("one");
  EXPECT_EQ(slurp(scratch / "a"), "one\n");
}

TEST(GrowingFiles, OfALineThatDoesNotFitNothingStays) {
  const Scratch scratch;
  AppendFile file(scratch / "a", Open::kEmpty);
  {
    const FileSizeLimit limit(1000);
    file.line(std::string(600, 'x'));
    expect_full(error_of<DiskError>([&] { file.line(std::string(600, 'y')); }), "/a");
  }
  EXPECT_EQ(slurp(scratch / "a"), std::string(600, 'x') + "\n");
  file.line("more");
  EXPECT_EQ(slurp(scratch / "a"), std::string(600, 'x') + "\nmore\n");
}

TEST(GrowingFiles, AFullDiskIsToldAtTheFirstLine) {
  AppendFile file(test::kFullDevice, Open::kGoOn);
  expect_full(error_of<DiskError>([&] { file.line("x"); }), test::kFullDevice);
  expect_full(error_of<DiskError>([&] { file.line("x"); }), test::kFullDevice);
}

TEST(GrowingFiles, AMissingFolderIsToldAtOnce) {
  const Scratch scratch;
  EXPECT_TRUE(contains(error_of<DiskError>([&] { AppendFile(scratch / "none/a", Open::kGoOn); }),
                       "none/a: No such file or directory: check the path"));
}

TEST(GrowingFiles, ASmallDiskFillsUpByWholeLines) {
  const Scratch scratch;
  const test::SmallDisk disk(scratch.path(), 64);
  if (!disk.is_there()) GTEST_SKIP() << "SKIPPED: no small file system may be mounted here";
  AppendFile file(scratch / "a", Open::kEmpty);
  const std::string line(999, 'x');
  int lines = 0;
  const std::string what = error_of<DiskError>([&] {
    for (; lines < 100; ++lines) file.line(line);
  });
  expect_full(what, "/a");
  EXPECT_GT(lines, 10);
  EXPECT_EQ(fs::file_size(scratch / "a"), static_cast<size_t>(lines) * 1000);
}

}  // namespace
}  // namespace fpdist::files
