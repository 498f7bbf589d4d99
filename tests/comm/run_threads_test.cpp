#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::comm {
namespace {

TEST(RunThreads, TheFirstExceptionWinsAndWakesTheOthers) {
  std::atomic<int> woken = 0;
  const auto body = [&](World& world) {
    if (world.rank() == 1) throw DataError("rows.jsonl:3:7: not a number");
    try {
      world.communicator().barrier();
    } catch (const CommError& error) {
      EXPECT_NE(std::string(error.what()).find("rows.jsonl:3:7"), std::string::npos) << error.what();
      ++woken;
      throw;
    }
  };
  EXPECT_THROW(run_threads(4, body), DataError);
  EXPECT_EQ(woken, 3);
  EXPECT_THROW(run_threads(2, [](World&) { throw 7; }), int);
  EXPECT_THROW(run_threads(0, [](World&) {}), ShapeError);
}

TEST(RunThreads, WorldAbortReturnsAndEndsTheOthers) {
  EXPECT_THROW(run_threads(3,
                           [](World& world) {
                             if (world.rank() == 0) return world.abort(8, "done with it");
                             world.communicator().barrier();
                           }),
               CommError);
}

TEST(RunThreads, JobsDoNotDisturbEachOther) {
  run_threads(2, [](World& outer) {
    EXPECT_THROW(run_threads(2, [](World& inner) { inner.abort(8, "inner"), inner.communicator().barrier(); }),
                 CommError);
    at::Tensor one = at::ones({1}, at::kLong);
    outer.communicator().all_reduce(one);
    EXPECT_EQ(one.item<int64_t>(), 2);
  });
}

}  // namespace
}  // namespace fpdist::comm
