#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

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

int64_t messages_of(Communicator& communicator, const std::function<void()>& call) {
  const int64_t before = communicator.traffic().messages;
  call();
  return communicator.traffic().messages - before;
}

/// The sum in rank order, to the bit, and as many messages as there are doublings up to n, whatever n is.
TEST(RunThreads, SmallCollectivesTakeLogNMessages) {
  for (int n = 2; n <= 32; n += n < 18 ? 1 : 7) {
    SCOPED_TRACE(::testing::Message() << n << " ranks");
    run_threads(n, [n](World& world) {
      Communicator& c = world.communicator();
      const auto value = [](int rank, int64_t i) {
        return std::sin(1.0 + 7 * rank + static_cast<double>(i)) * (1 + rank % 5 * 1e6);
      };
      const int64_t log_n = std::bit_width(static_cast<uint64_t>(n - 1));
      std::vector<int64_t> counts(n);
      for (int r = 0; r < n; ++r) counts[r] = 1 + r % 3;
      at::Tensor sum = at::ones({4}, at::kDouble),
                 in = at::ones({std::accumulate(counts.begin(), counts.end(), int64_t{0})}, at::kDouble),
                 mine = at::ones({counts[world.rank()]}, at::kDouble), all = in.clone();
      const auto fill = [&](at::Tensor& tensor) {
        for (int64_t i = 0; i < tensor.numel(); ++i) tensor[i] = value(world.rank(), i);
      };
      const auto summed = [&](int64_t i) {
        double result = value(0, i);
        for (int r = 1; r < n; ++r) result += value(r, i);
        return result;
      };
      fill(sum), fill(in);
      EXPECT_EQ(messages_of(c, [&] { c.all_reduce(sum); }), log_n);
      for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(sum[i].item<double>(), summed(i));
      EXPECT_EQ(messages_of(c, [&] { c.reduce_scatter_v(in, mine, counts); }), log_n);
      const int64_t begin = std::accumulate(counts.begin(), counts.begin() + world.rank(), int64_t{0});
      for (int64_t i = 0; i < mine.numel(); ++i) EXPECT_EQ(mine[i].item<double>(), summed(begin + i));
      fill(mine);
      EXPECT_EQ(messages_of(c, [&] { c.all_gather_v(mine, all, counts); }), log_n);
      for (int64_t r = 0, at = 0; r < n; ++r)
        for (int64_t i = 0; i < counts[r]; ++i, ++at) EXPECT_EQ(all[at].item<double>(), value(static_cast<int>(r), i));
    });
  }
}

}  // namespace
}  // namespace fpdist::comm
