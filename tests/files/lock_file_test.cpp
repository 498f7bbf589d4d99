// Who works in a folder, and that it is known for exactly as long as he does.

#include "src/files/lock_file.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>

#include "fpdist/core/error.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::files {
namespace {

using test::error_of, test::expect_words;

TEST(LockFile, IsHeldByOneAndGoneWithIt) {
  const test::Scratch scratch;
  const std::string path = scratch / "run.lock";
  auto first = std::make_unique<LockFile>(path, "process 1 on a");
  EXPECT_TRUE(first->is_held());
  EXPECT_EQ(test::slurp(path), "process 1 on a");
  expect_words(error_of<ConfigError>([&] { LockFile(path, "process 2 on b"); }), {path, "is held by process 1 on a"});
  first.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(LockFile(path, "process 2 on b").is_held());
}

TEST(LockFile, OfAKilledProcessIsNobodys) {
  const test::Scratch scratch;
  const std::string path = scratch / "run.lock";
  const pid_t child = fork();
  if (child == 0) {
    const LockFile lock(path, "a process that is killed, and has a long name");
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(std::filesystem::exists(path));
  const LockFile lock(path, "the next");
  EXPECT_EQ(test::slurp(path), "the next");
}

TEST(LockFile, ThatCannotBeMadeSaysWhy) {
  const test::Scratch scratch;
  expect_words(error_of<DiskError>([&] { LockFile(scratch / "none/run.lock", "me"); }),
               {"none/run.lock", "check the path"});
  const test::FileSizeLimit limit(0);
  expect_words(error_of<DiskError>([&] { LockFile(scratch / "run.lock", "me"); }), {"run.lock", "is the disk full?"});
  EXPECT_FALSE(std::filesystem::exists(scratch / "run.lock"));
}

TEST(Cut, LeavesTheFirstBytes) {
  const test::Scratch scratch;
  test::spill(scratch / "lines", "one\ntwo\n");
  cut(scratch / "lines", 4);
  EXPECT_EQ(test::slurp(scratch / "lines"), "one\n");
  expect_words(error_of<DiskError>([&] { cut(scratch / "none", 4); }), {"none: No such file"});
}

}  // namespace
}  // namespace fpdist::files
