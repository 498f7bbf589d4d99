// What is slow is not dead, and what is dead is noticed whatever is slow beside it: for thread and MPI ranks.
#include "fpdist/comm/slow_work.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "fpdist/core/error.hpp"
#include "src/comm/journal.hpp"
#include "src/core/clock.hpp"
#include "tests/support/ranks/run_ranks.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::comm {
namespace {

using std::chrono::milliseconds;
using test::contains, test::error_of, test::run_ranks;

constexpr milliseconds kTimeout(600);
constexpr double kSlack = 10;  // seconds: ranks outnumber cores, and what must not be is a wait without end

void sleep_for(milliseconds time) { std::this_thread::sleep_for(time); }

/// Many threads, or the few processes of this job; what is slow takes too long for more sizes than that.
bool is_tried(const World& world) {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr ? world.size() == 3 : world.size() == 8;
}

TEST(SlowWork, IsWaitedForHoweverLongAndOnEveryAxis) {
  run_ranks(
      [](World& world) {
        if (!is_tried(world)) return;
        const auto axis = world.communicator().split("dp", 0, world.rank());
        for (int turn = 0; turn < 2; ++turn) {
          if (world.rank() == world.size() - 1) {
            const SlowWork slow(world.communicator(), "reading");
            sleep_for(2 * kTimeout);
          }
          axis->barrier();
        }
      },
      {.timeout = kTimeout});
}

TEST(SlowWork, OfSeveralRanksOneAfterTheOtherIsWaitedForAsWell) {
  run_ranks(
      [](World& world) {
        if (!is_tried(world)) return;
        {
          const SlowWork slow(world.communicator(), "starting up");
          sleep_for(world.rank() * kTimeout / 2);
        }
        world.communicator().barrier();
      },
      {.timeout = kTimeout});
}

TEST(SlowWork, ARankThatStaysAwayAfterwardsIsLostAndItsLastSignIsTold) {
  run_ranks(
      [](World& world) {
        if (!is_tried(world)) return;
        if (world.rank() == 0) {
          {
            const SlowWork outer(world.communicator(), "at work");
            const SlowWork inner(world.communicator(), "saving out/final");
            sleep_for(2 * kTimeout);
          }
          sleep_for(milliseconds(3000));
          return;
        }
        const auto start = Clock::now();
        const std::string error = error_of<CommError>([&] { world.communicator().barrier(); });
        EXPECT_GT(seconds_since(start), 2.5 * to_seconds(kTimeout));
        EXPECT_LT(seconds_since(start), 3 * to_seconds(kTimeout) + kSlack);
        // Who waits for another one hears of rank 0 when that one gives up.
        EXPECT_TRUE(contains(error, "s ago world rank 0 was saving out/final") || contains(error, "aborted")) << error;
      },
      {.timeout = kTimeout});
}

TEST(SlowWork, ThatNeverEndsIsLostAtItsOwnDeadline) {
  run_ranks(
      [](World& world) {
        if (!is_tried(world)) return;
        if (world.rank() == 0) {
          const SlowWork slow(world.communicator(), "hanging");
          sleep_for(6 * kTimeout);
          return;
        }
        const auto start = Clock::now();
        error_of<CommError>([&] { world.communicator().barrier(); });
        EXPECT_GT(seconds_since(start), 3 * to_seconds(kTimeout));
        EXPECT_LT(seconds_since(start), 4 * to_seconds(kTimeout) + kSlack);
      },
      {.timeout = kTimeout, .slow_timeout = 3 * kTimeout});
}

TEST(SlowWork, ItsDeadlineBeginsAnewBehindEveryWait) {
  run_ranks(
      [](World& world) {
        if (!is_tried(world)) return;
        const SlowWork slow(world.communicator(), "saving");
        for (int turn = 0; turn < 3; ++turn) {
          if (world.rank() == 0) sleep_for(2 * kTimeout);
          world.communicator().barrier();
        }
      },
      {.timeout = kTimeout, .slow_timeout = 3 * kTimeout});
}

TEST(SlowWork, RanksThatWaitForEachOtherInItAreNoSignOfLife) {
  run_ranks(
      [](World& world) {
        if (!is_tried(world)) return;
        const SlowWork slow(world.communicator(), "starting up");
        at::Tensor tensor = at::ones({4});
        const auto start = Clock::now();
        error_of<CommError>([&] {  // everyone receives, nobody sends
          world.communicator().group_begin();
          world.communicator().receive(tensor, (world.rank() + 1) % world.size());
          world.communicator().group_end();
        });
        EXPECT_LT(seconds_since(start), to_seconds(kTimeout) + kSlack);
      },
      {.timeout = kTimeout});
}

TEST(SlowWork, OneThatIsLostIsNoticedWhenTheSlowOneIsDone) {
  run_ranks(
      [](World& world) {
        if (!is_tried(world)) return;
        if (world.rank() == 2) return sleep_for(milliseconds(3000));  // comes to no call any more
        const auto start = Clock::now();
        if (world.rank() == 0) {
          const SlowWork slow(world.communicator(), "saving");
          sleep_for(2 * kTimeout);
        }
        const std::string error = error_of<CommError>([&] { world.communicator().barrier(); });
        EXPECT_TRUE(contains(error, "no answer from world rank") || contains(error, "aborted")) << error;
        EXPECT_LT(seconds_since(start), 3.5 * to_seconds(kTimeout) + kSlack);
      },
      {.timeout = kTimeout});
}

TEST(Journal, SlowWorkIsTheInnermostOutsideOfWaits) {
  Journal journal;
  const auto work = [&] { return journal.slow_work(std::chrono::hours(1)).value_or("none"); };
  EXPECT_EQ(work(), "none");
  journal.begin_slow("outer");
  journal.begin_slow("inner");
  EXPECT_EQ(work(), "inner");
  {
    const OpenWait waiting(journal);
    EXPECT_EQ(work(), "none");
  }
  journal.end_slow();
  EXPECT_EQ(work(), "outer");
  EXPECT_FALSE(journal.slow_work(milliseconds(-1)));
  journal.end_slow();
  EXPECT_EQ(work(), "none");
}

}  // namespace
}  // namespace fpdist::comm
