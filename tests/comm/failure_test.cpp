// What goes wrong must end in an error on every rank, soon, naming the collective and the axis: for thread and MPI
// ranks.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/core/error.hpp"
#include "tests/comm/rank_values.hpp"
#include "tests/support/ranks/run_ranks.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::comm {
namespace {

using test::error_of, test::contains, test::run_ranks;

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

TEST(Watchdog, AnAbsentRankIsNamedWithinTheTimeout) {
  constexpr milliseconds kTimeout(400);
  const auto body = [&](World& world) {
    if (world.size() == 1) return;
    const auto dp = world.communicator().split("dp", 0, world.rank());
    const int absent = world.size() - 1;
    at::Tensor tensor = test::ones({5}, at::kDouble);
    dp->all_reduce(tensor);
    if (world.rank() == absent) std::this_thread::sleep_for(3 * kTimeout);
    const auto start = Clock::now();
    const std::string error = error_of<CommError>([&] { dp->all_reduce(tensor); });
    EXPECT_LT(Clock::now() - start, kTimeout + milliseconds(1000));
    EXPECT_TRUE(contains(error, "all_reduce, call 2, on axis dp")) << error;
    if (world.rank() == absent) {
      EXPECT_TRUE(contains(error, "aborted")) << error;  // it came too late, the others had given up
    } else {
      EXPECT_TRUE(contains(error, text("no answer from world rank ", absent))) << error;
    }
    EXPECT_TRUE(contains(error_of<CommError>([&] { world.communicator().barrier(); }), "aborted"))
        << "a dead communicator lives on";
  };
  run_ranks(body, {.timeout = kTimeout});
}

TEST(Watchdog, AMissingReceiverIsNamedToo) {
  const auto body = [](World& world) {
    if (world.size() == 1) return;
    at::Tensor tensor = test::ones({5}, at::kDouble);
    if (world.rank() == 0) {
      world.communicator().group_begin();
      world.communicator().send(tensor, 1);  // small enough to be buffered, yet it must not pass
      const std::string error = error_of<CommError>([&] { world.communicator().group_end(); });
      EXPECT_TRUE(contains(error, "group") && contains(error, "no answer from world rank 1")) << error;
    } else {
      std::this_thread::sleep_for(milliseconds(600));
    }
  };
  run_ranks(body, {.timeout = milliseconds(300)});
}

TEST(Watchdog, CallsOnDifferentAxesNeverMeet) {
  const auto body = [](World& world) {
    if (world.size() == 1) return;
    const auto dp = world.communicator().split("dp", 0, world.rank());
    const auto tp = world.communicator().split("tp", 0, world.rank());
    at::Tensor tensor = test::ones({5}, at::kDouble);
    const std::string error = error_of<CommError>([&] { (world.rank() == 0 ? tp : dp)->all_reduce(tensor); });
    EXPECT_TRUE(contains(error, "all_reduce, call 1, on axis") && contains(error, "no answer")) << error;
  };
  run_ranks(body, {.timeout = milliseconds(300)});
}

TEST(Watchdog, AbortWakesRanksOnEveryAxis) {
  run_ranks([](World& world) {
    if (world.size() == 1) return;
    const auto dp = world.communicator().split("dp", 0, world.rank());
    const auto start = Clock::now();
    if (world.rank() == 0) {
      std::this_thread::sleep_for(milliseconds(50));
      world.communicator().abort("enough of this");
    }
    const std::string error = error_of<CommError>([&] { dp->barrier(); });
    EXPECT_TRUE(contains(error, "barrier") && contains(error, "axis dp") &&
                contains(error, "world rank 0: enough of this"))
        << error;
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(10));
  });
}

/// The last rank calls `odd`, the others `usual`; every rank must get an error long before the deadline. Returns the
/// text.
void expect_mismatch(const std::function<void(Communicator&)>& usual, const std::function<void(Communicator&)>& odd,
                     const std::vector<std::string>& words, int check_every = 1) {
  const auto body = [&](World& world) {
    if (world.size() == 1) return;
    Communicator& communicator = world.communicator();
    const bool is_odd = world.rank() == world.size() - 1;
    const auto start = Clock::now();
    std::string error = error_of<CommError>([&] {
      is_odd ? odd(communicator) : usual(communicator);
      communicator.barrier();  // a rank whose own messages all matched learns it here
    });
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(10));
    for (const std::string& word : words) EXPECT_TRUE(contains(error, word)) << word << " is not in: " << error;
  };
  run_ranks(body, {.timeout = test::kPatience, .check_every = check_every});
}

void sum_ones(Communicator& communicator, int64_t count, at::ScalarType dtype, ReduceOp op = ReduceOp::kSum) {
  at::Tensor tensor = test::ones({count}, dtype);
  communicator.all_reduce(tensor, op);
}

TEST(Mismatch, AnotherCollectiveIsNamed) {
  expect_mismatch([](Communicator& c) { sum_ones(c, 4, at::kFloat); }, [](Communicator& c) { c.barrier(); },
                  {"all_reduce", "barrier", "axis world"});
}

TEST(Mismatch, AGroupAgainstACollectiveIsAnError) {
  expect_mismatch([](Communicator& c) { sum_ones(c, 4, at::kFloat); },
                  [](Communicator& c) {
                    at::Tensor tensor = test::ones({4}, at::kFloat);
                    c.group_begin();
                    c.send(tensor, 0);
                    c.group_end();
                  },
                  {"all_reduce", "axis world"});  // "group" is named where its message arrives first
}

TEST(Mismatch, AnotherCountIsNamed) {
  for (const int64_t count : {5, 50000}) {
    expect_mismatch([](Communicator& c) { sum_ones(c, 4, at::kFloat); },
                    [count](Communicator& c) { sum_ones(c, count, at::kFloat); }, {"all_reduce", "bytes of Float"});
  }
}

TEST(Mismatch, AnotherDtypeOfTheSameSizeIsNamed) {
  expect_mismatch([](Communicator& c) { sum_ones(c, 4, at::kFloat); },
                  [](Communicator& c) { sum_ones(c, 4, at::kInt); }, {"all_reduce", "Float", "Int"});
}

TEST(Mismatch, AnotherReductionIsNamed) {
  expect_mismatch([](Communicator& c) { sum_ones(c, 4, at::kFloat); },
                  [](Communicator& c) { sum_ones(c, 4, at::kFloat, ReduceOp::kMax); }, {"all_reduce", "signature"});
}

TEST(Mismatch, ACallTooManyIsNamed) {
  expect_mismatch([](Communicator& c) { sum_ones(c, 4, at::kFloat); },
                  [](Communicator& c) {
                    c.barrier();
                    sum_ones(c, 4, at::kFloat);
                  },
                  {"call 1", "barrier"});
}

TEST(Mismatch, WithoutChecksAnotherSizeIsStillAnError) {
  for (const int64_t count : {3, 5}) {
    expect_mismatch([](Communicator& c) { sum_ones(c, 4, at::kFloat); },
                    [count](Communicator& c) { sum_ones(c, count, at::kFloat); }, {"all_reduce"}, 0);
  }
}

TEST(Misuse, ASecondMessageToAPeerInAGroupIsRefused) {
  run_ranks([](World& world) {
    Communicator& communicator = world.communicator();
    at::Tensor tensor = test::ones({3}, at::kFloat);
    communicator.group_begin();
    communicator.send(tensor, 0);
    EXPECT_TRUE(contains(error_of<CommError>([&] { communicator.send(tensor, 0); }), "a second send with rank 0"));
    communicator.group_begin();  // the refused group is gone
    communicator.receive(tensor, 0);
    EXPECT_TRUE(
        contains(error_of<CommError>([&] { communicator.receive(tensor, 0); }), "a second receive with rank 0"));
    communicator.barrier();
  });
}

TEST(Misuse, CallsOutOfOrderAreRefused) {
  run_ranks([](World& world) {
    Communicator& communicator = world.communicator();
    at::Tensor tensor = test::ones({3}, at::kFloat), other = test::ones({2}, at::kFloat);
    EXPECT_TRUE(contains(error_of<CommError>([&] { communicator.send(tensor, 0); }), "outside"));
    EXPECT_TRUE(contains(error_of<CommError>([&] { communicator.group_end(); }), "group_end without"));
    communicator.group_begin();
    EXPECT_TRUE(contains(error_of<CommError>([&] { communicator.group_begin(); }), "inside a group"));
    EXPECT_TRUE(contains(error_of<CommError>([&] { communicator.all_reduce(tensor); }), "between group_begin"));
    communicator.send(tensor, world.rank());
    EXPECT_TRUE(contains(error_of<CommError>([&] { communicator.group_end(); }), "message to oneself"));
    communicator.group_begin();
    communicator.send(tensor, world.rank());
    communicator.receive(other, world.rank());
    EXPECT_TRUE(contains(error_of<CommError>([&] { communicator.group_end(); }), "message to oneself"));
    communicator.barrier();
  });
}

TEST(Misuse, TensorsAndCountsThatDoNotFitAreRefused) {
  run_ranks([](World& world) {
    Communicator& communicator = world.communicator();
    const auto refused = [](const std::function<void()>& call) { return error_of<ShapeError>(call); };
    at::Tensor ok = test::ones({4}, at::kFloat), half = ok.to(at::kHalf),
               strided = test::ones({4, 4}, at::kFloat).select(1, 0), none;
    std::vector<int64_t> counts(world.size(), 4), short_counts(world.size(), 3), negative(world.size(), 4);
    negative[0] = -4;
    at::Tensor all = test::ones({4 * world.size()}, at::kFloat), wide = all.to(at::kDouble);
    EXPECT_TRUE(contains(refused([&] { communicator.all_reduce(half); }), "Half"));
    EXPECT_TRUE(contains(refused([&] { communicator.all_reduce(strided); }), "not contiguous"));
    EXPECT_TRUE(contains(refused([&] { communicator.all_reduce(none); }), "undefined"));
    EXPECT_TRUE(contains(refused([&] { communicator.broadcast(ok, world.size()); }), "root"));
    EXPECT_TRUE(contains(refused([&] { communicator.all_gather_v(ok, all, short_counts); }), "add up to"));
    EXPECT_TRUE(contains(refused([&] { communicator.all_gather_v(ok, all, negative); }), "-4"));
    EXPECT_TRUE(contains(refused([&] { communicator.all_gather_v(ok, wide, counts); }), "Double"));
    EXPECT_TRUE(contains(refused([&] { communicator.reduce_scatter_v(wide, ok, counts); }), "Double"));
    EXPECT_TRUE(contains(refused([&] { communicator.all_to_all_v(wide, counts, all, counts); }), "dtype"));
    counts.push_back(0);
    EXPECT_TRUE(contains(refused([&] { communicator.all_gather_v(ok, all, counts); }), "counts for"));
    communicator.group_begin();
    EXPECT_TRUE(contains(refused([&] { communicator.send(ok, -1); }), "names rank -1"));
    communicator.barrier();
  });
}

}  // namespace
}  // namespace fpdist::comm
