// Kills and failures at every call that changes what is on the disk (tests/support/faults is preloaded): there is
// always a checkpoint, old or new and whole, and the next start goes on.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>

#include "fpdist/core/error.hpp"
#include "tests/checkpoint/state/cut_tensors.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using namespace fpdist::test;

constexpr int kRanks = 2, kDone = 0, kRefused = 7;

/// A checkpoint in which everything says `value`.
void save(const std::string& directory, int value, const std::string& companions = "") {
  const at::Tensor half = at::full({5000}, value, at::kFloat);
  std::vector<std::vector<StatePiece>> of_rank;
  for (int rank = 0; rank < kRanks; ++rank)
    of_rank.push_back({{"w", {.shape = {10000}, .begin = rank * 5000, .size = 5000}, half}});
  save_state(directory, of_rank,
             {.state_json = std::to_string(value), .config_json = "{}", .companions_from = companions});
}

/// What a whole checkpoint says.
int value_of(const std::string& directory) {
  const TrainingState state(directory);
  state.verify(0, 1);
  at::Tensor w = at::zeros({10000});
  state.read("w", {.shape = {10000}, .size = 10000}, w);
  const int value = std::stoi(state.state_json());
  EXPECT_TRUE(at::equal(w, at::full({10000}, value, at::kFloat)));
  return value;
}

/// By step, of those without a fault; each is whole.
std::map<int64_t, int> values_in(const std::string& output_dir) {
  std::map<int64_t, int> values;
  for (const FoundState& found : find_states(output_dir))
    if (found.fault.empty()) values[found.step] = value_of(found.directory);
  return values;
}

/// How a child ended in which call number `at` in `folder` meets `fault`: its exit code, or minus the signal. What a
/// failed save has built it discards, as a run does.
int with_fault(const std::string& folder, int at, const std::string& fault, const std::string& target,
               const std::function<void()>& act) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("FPDIST_FAULT_FOLDER", folder.c_str(), 1);
    ::setenv("FPDIST_FAULT_AT", std::to_string(at).c_str(), 1);
    ::setenv("FPDIST_FAULT", fault.c_str(), 1);
    try {
      act();
    } catch (const DiskError&) {
      discard_state(target);
      ::_exit(kRefused);
    }
    ::_exit(kDone);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/// What is done to checkpoint-20 beside checkpoint-10, which says 10.
struct Act {
  const char* what;
  int before;  ///< what checkpoint-20 says before; 0: there is none
  int after;   ///< and after
};

/// checkpoint-10 is there, and checkpoint-20 as it was before or as it is after.
void expect_old_or_new(const std::string& output_dir, const Act& act) {
  const auto values = values_in(output_dir);
  EXPECT_TRUE(values.contains(10));
  const int now = values.contains(20) ? values.at(20) : 0;
  EXPECT_TRUE(now == act.before || now == act.after) << now;
}

void expect_no_leftovers(const std::string& output_dir) {
  for (const std::string& name : names_in(output_dir))
    EXPECT_TRUE(name == "checkpoint-10" || name == "checkpoint-20" || name == "model") << name;
}

/// One call meets the fault; false when there were not so many.
bool survives(const Act& act, const std::string& fault, int at) {
  SCOPED_TRACE(text(act.what, ", ", fault, " at call ", at));
  const Scratch scratch;
  const SmallDisk in_memory(scratch.path(), 8 << 10);  // where one may be mounted: a sync takes no time there
  const std::string target = scratch / "checkpoint-20", model = scratch / "model";
  std::filesystem::create_directories(model + "/additional_chat_templates");
  spill(model + "/additional_chat_templates/rag.jinja", "a template");
  save(scratch / "checkpoint-10", 10);
  if (act.before != 0) save(target, act.before, model);
  const auto run = [&] { act.after == 0 ? remove_state(target) : save(target, act.after, model); };
  const int ended = with_fault(scratch.path(), at, fault, target, run);
  const bool kills = fault == "kill";
  EXPECT_TRUE(ended == kDone || ended == (kills ? -SIGKILL : kRefused)) << ended;
  expect_old_or_new(scratch.path(), act);
  if (ended == kRefused && act.after != 0) {
    EXPECT_EQ(values_in(scratch.path()).contains(20), act.before != 0);
    expect_no_leftovers(scratch.path());
  }
  recover_states(scratch.path());  // the next start
  expect_old_or_new(scratch.path(), act);
  expect_no_leftovers(scratch.path());
  run();
  EXPECT_EQ(values_in(scratch.path()).contains(20), act.after != 0);
  return ended != kDone;
}

/// Kills at every call in turn, then errors.
void sweep(const Act& act) {
  int calls = 0;
  while (calls < 1000 && survives(act, "kill", calls + 1)) ++calls;
  EXPECT_GT(calls, 5) << "the faults are not preloaded: run it as ctest does";
  for (const char* error : {"ENOSPC", "EIO"})
    for (int at = 1; at <= calls; ++at) survives(act, error, at);
}

TEST(StateFaults, OfAFirstSave) { sweep({"save", 0, 20}); }

TEST(StateFaults, OfASaveInThePlaceOfAnOlderOne) { sweep({"replace", 19, 20}); }

TEST(StateFaults, OfTheSameWhereNamesCannotBeExchanged) {
  ::setenv("FPDIST_FAULT_NFS", "1", 1);
  sweep({"replace on NFS", 19, 20});
  ::unsetenv("FPDIST_FAULT_NFS");
}

TEST(StateFaults, OfARemoval) { sweep({"remove", 20, 0}); }

TEST(FullDisk, AShardThatDoesNotFitLeavesNothingOfIt) {
  const Scratch scratch;
  save(scratch / "checkpoint-20", 19);
  {
    const FileSizeLimit limit(8 << 10);
    expect_words(error_of<DiskError>([&] { save(scratch / "checkpoint-20", 20); }),
                 {"shard-00000", "is the disk full?"});
  }
  EXPECT_TRUE(names_in(scratch / "checkpoint-20.tmp").empty());
  discard_state(scratch / "checkpoint-20");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"checkpoint-20"});
  EXPECT_EQ(value_of(scratch / "checkpoint-20"), 19);
}

TEST(FullDisk, ASmallDiskKeepsTheOlderOne) {
  const Scratch scratch;
  std::filesystem::create_directories(scratch / "disk");
  const SmallDisk disk(scratch / "disk", 80);
  if (!disk.is_there()) GTEST_SKIP() << "no file system may be mounted here";
  save(scratch / "disk/checkpoint-20", 19);
  for (const char* next : {"disk/checkpoint-20", "disk/checkpoint-30"}) {
    EXPECT_THROW(save(scratch / next, 20), DiskError);
    discard_state(scratch / next);
    EXPECT_EQ(names_in(scratch / "disk"), std::vector<std::string>{"checkpoint-20"});
    EXPECT_EQ(value_of(scratch / "disk/checkpoint-20"), 19);
  }
}

}  // namespace
}  // namespace fpdist::checkpoint
