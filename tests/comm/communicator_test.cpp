// The laws of a Communicator, for every implementation (support/run_ranks.hpp).
#include "fpdist/comm/communicator.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

#include "fpdist/comm/mesh.hpp"
#include "fpdist/core/error.hpp"
#include "tests/comm/rank_values.hpp"
#include "tests/support/ranks/run_ranks.hpp"

namespace fpdist::comm {
namespace {

using test::ascending_sum, test::is_sum, test::kDtypes, test::ragged_counts, test::run_ranks, test::values_of;

/// Small enough that sums take several rounds and messages several pieces.
const CommOptions kTight{
    .timeout = test::kPatience, .check_every = 1, .scratch_bytes = 4096, .max_message_bytes = 1000};

/// Messages come in another order each time.
const CommOptions kDelayed{.timeout = test::kPatience, .max_delay = std::chrono::microseconds(80), .delay_seed = 11};

int64_t total(const std::vector<int64_t>& counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

void check_all_reduce(World& world) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const int64_t count : {0, 1, 2, 7, 1000, 20011}) {
      at::Tensor tensor = values_of(world.rank(), count, dtype);
      world.communicator().all_reduce(tensor);
      EXPECT_TRUE(is_sum(tensor, ascending_sum(world.size(), count, dtype), world.size()))
          << c10::toString(dtype) << " x " << count << ", rank " << world.rank() << " of " << world.size();
    }
  }
}

TEST(Communicator, AllReduceIsTheAscendingSumBitForBit) { run_ranks(check_all_reduce); }

TEST(Communicator, AllReduceInManyRoundsAndPiecesHasTheSameBits) { run_ranks(check_all_reduce, kTight); }

TEST(Communicator, AllReduceUnderRandomDelaysHasTheSameBits) {
  for (const uint64_t seed : {1, 2}) {
    CommOptions options = kDelayed;
    options.delay_seed = seed;
    run_ranks(check_all_reduce, options);
  }
}

TEST(Communicator, ChecksCanBeOffOrRare) {
  for (const int every : {0, 3}) run_ranks(check_all_reduce, {.timeout = test::kPatience, .check_every = every});
}

TEST(Communicator, AllReduceKeepsTheShape) {
  run_ranks([](World& world) {
    at::Tensor matrix = values_of(world.rank(), 60000, at::kDouble).view({200, 300});
    world.communicator().all_reduce(matrix);
    EXPECT_TRUE(is_sum(matrix, ascending_sum(world.size(), 60000, at::kDouble).view({200, 300}), world.size()));
  });
}

TEST(Communicator, MinAndMaxHandNanOn) {
  const auto body = [](World& world) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    at::Tensor low = test::full({3}, world.rank() + 1.0, at::kDouble), high = low.clone();
    if (world.rank() == world.size() - 1) low[2] = high[2] = nan;
    world.communicator().all_reduce(low, ReduceOp::kMin);
    world.communicator().all_reduce(high, ReduceOp::kMax);
    EXPECT_EQ(low[0].item<double>(), 1.0);
    EXPECT_EQ(high[1].item<double>(), world.size());
    EXPECT_TRUE(std::isnan(low[2].item<double>()) && std::isnan(high[2].item<double>()));
  };
  run_ranks(body);
  run_ranks(body, kDelayed);
}

TEST(Communicator, AllGatherConcatenatesRaggedParts) {
  const auto body = [](World& world) {
    for (const at::ScalarType dtype : kDtypes) {
      const std::vector<int64_t> counts = ragged_counts(world.size(), 700);
      std::vector<at::Tensor> parts;
      for (int r = 0; r < world.size(); ++r) parts.push_back(values_of(r, counts[r], dtype));
      at::Tensor out = test::zeros({total(counts)}, dtype);
      world.communicator().all_gather_v(parts[world.rank()], out, counts);
      EXPECT_TRUE(at::equal(out, at::cat(parts))) << c10::toString(dtype);

      at::Tensor aliased = test::zeros({total(counts)}, dtype);  // own part already in its slot
      const int64_t begin = std::accumulate(counts.begin(), counts.begin() + world.rank(), int64_t{0});
      at::Tensor slot = aliased.narrow(0, begin, counts[world.rank()]);
      slot.copy_(parts[world.rank()]);
      world.communicator().all_gather_v(slot, aliased, counts);
      EXPECT_TRUE(at::equal(aliased, at::cat(parts))) << c10::toString(dtype);
    }
  };
  run_ranks(body);
  run_ranks(body, kTight);
  run_ranks(body, kDelayed);
}

TEST(Communicator, ReduceScatterGivesEachRankItsSliceOfTheSum) {
  const auto body = [](World& world) {
    for (const at::ScalarType dtype : kDtypes) {
      const std::vector<int64_t> counts = ragged_counts(world.size(), 700);
      const int64_t begin = std::accumulate(counts.begin(), counts.begin() + world.rank(), int64_t{0});
      const int64_t mine = counts[world.rank()];
      const at::Tensor expected = ascending_sum(world.size(), total(counts), dtype).narrow(0, begin, mine);
      at::Tensor in = values_of(world.rank(), total(counts), dtype), out = test::zeros({mine}, dtype);
      world.communicator().reduce_scatter_v(in, out, counts);
      EXPECT_TRUE(is_sum(out, expected, world.size())) << c10::toString(dtype) << ", rank " << world.rank();
      EXPECT_TRUE(at::equal(in, values_of(world.rank(), total(counts), dtype))) << "the input changed";

      at::Tensor slot = in.narrow(0, begin, mine);  // in place
      world.communicator().reduce_scatter_v(in, slot, counts);
      EXPECT_TRUE(is_sum(slot, expected, world.size())) << c10::toString(dtype) << " in place, rank " << world.rank();
    }
  };
  run_ranks(body);
  run_ranks(body, kTight);
  run_ranks(body, kDelayed);
}

TEST(Communicator, StartedCollectivesMayBeWaitedForInAnyOrder) {
  const auto body = [](World& world) {
    Communicator& c = world.communicator();
    const int n = world.size(), me = world.rank();
    for (const std::vector<int64_t>& counts :
         {ragged_counts(n, 300), std::vector<int64_t>(static_cast<size_t>(n), 300)}) {
      const int64_t begin = std::accumulate(counts.begin(), counts.begin() + me, int64_t{0}), own = counts[me];
      const at::Tensor sum = ascending_sum(n, total(counts), at::kBFloat16);
      std::vector<at::Tensor> parts;
      for (int r = 0; r < n; ++r) parts.push_back(values_of(r, counts[r], at::kBFloat16));
      at::Tensor whole = values_of(me, total(counts), at::kBFloat16), in = whole.clone();
      at::Tensor scattered = test::zeros({own}, at::kBFloat16), all = test::zeros({total(counts)}, at::kBFloat16);
      const auto first = c.start_all_reduce(whole);
      const auto second = c.start_reduce_scatter_v(in, scattered, counts);
      const auto third = c.start_all_gather_v(parts[me], all, counts);
      third->wait(), first->wait(), second->wait();
      EXPECT_TRUE(is_sum(whole, sum, n));
      EXPECT_TRUE(is_sum(scattered, sum.narrow(0, begin, own), n));
      EXPECT_TRUE(at::equal(all, at::cat(parts)));
      c.keep_buffer(all);  // whatever it does, it changes no result
      c.broadcast(all, n - 1);
      EXPECT_TRUE(at::equal(all, at::cat(parts)));
    }
  };
  run_ranks(body);
  run_ranks(body, kDelayed);
}

TEST(Communicator, TheSameSumTwiceHasTheSameBits) {
  run_ranks([](World& world) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      at::Tensor first = values_of(world.rank(), 30011, dtype), second = first.clone();
      world.communicator().all_reduce(first);
      world.communicator().all_reduce(second);
      at::Tensor of_rank_0 = first.clone();
      world.communicator().broadcast(of_rank_0, 0);
      EXPECT_TRUE(at::equal(first, second) && at::equal(first, of_rank_0)) << c10::toString(dtype);
    }
  });
}

TEST(Communicator, AllToAllTransposesRaggedSlices) {
  const auto body = [](World& world) {
    const int n = world.size(), me = world.rank();
    const auto length = [](int from, int to) { return int64_t{(from * 5 + to * 3) % 7 * 100}; };
    const auto message = [&](int from, int to) { return values_of(from * 16 + to, length(from, to), at::kDouble); };
    std::vector<int64_t> in_counts, out_counts;
    std::vector<at::Tensor> in, out;
    for (int r = 0; r < n; ++r) {
      in_counts.push_back(length(me, r));
      out_counts.push_back(length(r, me));
      in.push_back(message(me, r));
      out.push_back(message(r, me));
    }
    at::Tensor received = test::zeros({total(out_counts)}, at::kDouble);
    world.communicator().all_to_all_v(at::cat(in), in_counts, received, out_counts);
    EXPECT_TRUE(at::equal(received, at::cat(out)));
  };
  run_ranks(body);
  run_ranks(body, kDelayed);
}

TEST(Communicator, BroadcastReachesEveryRankFromEveryRoot) {
  const auto body = [](World& world) {
    for (int root = 0; root < world.size(); ++root) {
      for (const at::ScalarType dtype : kDtypes) {
        for (const int64_t count : {0, 3, 5000}) {
          at::Tensor tensor = values_of(world.rank(), count, dtype);
          world.communicator().broadcast(tensor, root);
          EXPECT_TRUE(at::equal(tensor, values_of(root, count, dtype))) << "root " << root;
        }
      }
    }
  };
  run_ranks(body);
  run_ranks(body, kDelayed);
}

TEST(Communicator, GroupsCarryRingsBothWaysAndMessagesToOneself) {
  const auto body = [](World& world) {
    Communicator& communicator = world.communicator();
    const int n = world.size(), me = world.rank(), next = (me + 1) % n, before = (me + n - 1) % n;
    for (int turn = 0; turn < 3; ++turn) {  // one send and one receive per peer, all peers at once
      std::vector<at::Tensor> out, in;
      for (int r = 0; r < n; ++r) {
        out.push_back(values_of(me * 16 + r + turn, 100 * r, at::kFloat));
        in.push_back(test::zeros({100 * me}, at::kFloat));
      }
      communicator.group_begin();
      for (int r = 0; r < n; ++r) communicator.receive(in[r], r);
      for (int r = 0; r < n; ++r) communicator.send(out[r], r);
      communicator.group_end();
      for (int r = 0; r < n; ++r) EXPECT_TRUE(at::equal(in[r], values_of(r * 16 + me + turn, 100 * me, at::kFloat)));
    }
    at::Tensor held = values_of(me, 500, at::kLong), arriving = test::zeros({500}, at::kLong);
    for (int step = 1; step <= n; ++step) {  // a ring brings everyone's values past everyone
      communicator.group_begin();
      communicator.send(held, next);
      communicator.receive(arriving, before);
      communicator.group_end();
      std::swap(held, arriving);
      EXPECT_TRUE(at::equal(held, values_of((me + n - step) % n, 500, at::kLong)));
    }
  };
  run_ranks(body);
  run_ranks(body, kTight);
  run_ranks(body, kDelayed);
}

TEST(Communicator, SomeRanksMayTalkWhileOthersDoNot) {
  run_ranks([](World& world) {
    if (world.rank() < 2 && world.size() > 1) {
      at::Tensor tensor = values_of(world.rank(), 9, at::kInt);
      world.communicator().group_begin();
      if (world.rank() == 0) world.communicator().send(tensor, 1);
      if (world.rank() == 1) world.communicator().receive(tensor, 0);
      world.communicator().group_end();
      EXPECT_TRUE(at::equal(tensor, values_of(0, 9, at::kInt)));
    }
    world.communicator().barrier();
    check_all_reduce(world);  // numbers of calls agree although numbers of groups do not
  });
}

TEST(Communicator, BarrierHoldsEveryoneUntilTheLastHasCome) {
  const auto body = [](World& world) {
    for (int late = 0; late < world.size(); ++late) {
      at::Tensor mark = test::zeros({1}, at::kLong);
      const auto start = std::chrono::steady_clock::now();
      world.communicator().barrier();
      if (world.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      world.communicator().barrier();
      EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(19));
    }
  };
  run_ranks(body);
  run_ranks(body, kDelayed);
}

TEST(Communicator, SplitOrdersByKeyAndKeepsAxesApart) {
  const auto body = [](World& world) {
    const int n = world.size(), me = world.rank();
    const auto parity = world.communicator().split("parity", me % 2, -me);  // descending ranks
    const int members = me % 2 == 0 ? (n + 1) / 2 : n / 2;
    ASSERT_EQ(parity->size(), members);
    EXPECT_EQ(parity->axis(), "parity");
    EXPECT_EQ(parity->rank(), members - 1 - me / 2);
    const auto half = world.communicator().split("half", me / 2, 0);
    const auto inner = parity->split("inner", 0, me);
    EXPECT_EQ(inner->rank(), me / 2);
    for (int turn = 0; turn < 2; ++turn) {  // interleaved calls on four communicators over the same pairs
      at::Tensor a = test::full({1}, me, at::kLong), b = test::full({1}, me, at::kLong),
                 c = test::full({1}, me, at::kLong);
      parity->all_reduce(a);
      half->all_reduce(b);
      inner->broadcast(c, 0);
      check_all_reduce(world);
      int64_t same_parity = 0, same_half = 0;
      for (int r = 0; r < n; ++r) {
        if (r % 2 == me % 2) same_parity += r;
        if (r / 2 == me / 2) same_half += r;
      }
      EXPECT_EQ(a.item<int64_t>(), same_parity);
      EXPECT_EQ(b.item<int64_t>(), same_half);
      EXPECT_EQ(c.item<int64_t>(), me % 2);
    }
  };
  run_ranks(body);
  run_ranks(body, kDelayed);
}

/// What `call` hands to the network on `communicator`.
Traffic traffic_of(Communicator& communicator, const std::function<void()>& call) {
  const Traffic before = communicator.traffic();
  call();
  const Traffic after = communicator.traffic();
  return {.bytes = after.bytes - before.bytes, .messages = after.messages - before.messages};
}

TEST(Communicator, TrafficCountsThePayloadThatWasSent) {
  const auto body = [](World& world) {
    Communicator& c = world.communicator();
    const int64_t n = world.size(), me = world.rank(), others = n - 1;
    const auto expect = [&](const char* what, int64_t bytes, int64_t messages, const std::function<void()>& call) {
      const Traffic sent = traffic_of(c, call);
      EXPECT_EQ(sent.bytes, bytes) << what << ", rank " << me << " of " << n;
      EXPECT_EQ(sent.messages, messages) << what << ", rank " << me << " of " << n;
    };
    std::vector<int64_t> counts(n);
    for (int64_t r = 0; r < n; ++r) counts[r] = 10 * r;  // rank 0 has nothing
    const int64_t own = counts[me], whole = total(counts);
    at::Tensor mine = test::ones({own}, at::kDouble), all = test::ones({whole}, at::kDouble),
               small = test::ones({5}, at::kInt);
    at::Tensor large = test::ones({20000 * n}, at::kDouble), scattered = mine.clone();
    expect("barrier", 0, 0, [&] { c.barrier(); });
    const bool is_planned =
        test::transport() == test::Transport::kStream || test::transport() == test::Transport::kNccl;
    int64_t rounds = 0, handed_on = 0;  // of Bruck's gather: each hands on 2^k parts from its own downwards
    for (int64_t have = 1; have < n; have *= 2) {
      int64_t elements = 0;
      for (int64_t part = 0; part < std::min(have, n - have); ++part) elements += counts[(me - part + n) % n];
      rounds += elements > 0, handed_on += elements;
    }
    const int64_t log_n = std::bit_width(static_cast<uint64_t>(others));
    expect("all_gather_v", 8 * (is_planned ? own * others : handed_on), is_planned ? (own > 0 ? others : 0) : rounds,
           [&] { c.all_gather_v(mine, all, counts); });
    const bool is_whole = !is_planned && n > 2;  // few bytes: everyone gets everything
    expect("reduce_scatter_v", 8 * (is_whole ? whole * others : whole - own), is_whole ? log_n : others - (me > 0),
           [&] { c.reduce_scatter_v(all, scattered, counts); });
    expect("a small all_reduce", is_planned ? 2 * 20 * others / n : 20 * others, is_planned ? 2 * others : log_n,
           [&] { c.all_reduce(small); });
    expect("a large all_reduce", 2 * 160000 * others, is_planned ? 2 * others : others + log_n,
           [&] { c.all_reduce(large); });
    std::vector<int64_t> to_me(n, own);  // everyone sends rank r 10 * r elements
    at::Tensor received = test::zeros({own * n}, at::kDouble);
    expect("all_to_all_v", 8 * (whole - own), others - (me > 0), [&] { c.all_to_all_v(all, counts, received, to_me); });
    expect("a group", n > 1 ? 20 : 0, n > 1, [&] {
      at::Tensor in = test::zeros({5}, at::kInt);
      c.group_begin();
      c.send(small, static_cast<int>((me + 1) % n));
      c.receive(in, static_cast<int>((me + n - 1) % n));
      c.group_end();
    });
    at::Tensor sum = test::zeros({2}, at::kLong);  // a tree: ranks send different shares, each other rank hears once
    const Traffic sent = traffic_of(c, [&] { c.broadcast(small, 0); });
    sum[0] = sent.bytes, sum[1] = sent.messages;
    c.all_reduce(sum);
    EXPECT_EQ(sum[0].item<int64_t>(), 20 * others);
    EXPECT_EQ(sum[1].item<int64_t>(), others);
    const auto axis = c.split("tp", 0, 0);
    EXPECT_EQ(axis->traffic().bytes, 0);
  };
  run_ranks(body);
  CommOptions unchecked = kDelayed;
  unchecked.check_every = 0;  // headers are no payload
  run_ranks(body, unchecked);
}

TEST(Mesh, DpIsTheOutermostAxis) {
  run_ranks([](World& world) {
    const Mesh flat(world, {.dp = world.size()});
    EXPECT_EQ(flat.dp().size(), world.size());
    EXPECT_EQ(flat.at().dp, world.rank());
    EXPECT_EQ(flat.dp().axis(), "dp");
    EXPECT_THROW(Mesh(world, {.dp = world.size() + 1}), ConfigError);
    if (world.size() % 2 != 0) return;
    const Mesh folded(world, {.dp = world.size() / 2, .pp = 1, .cp = 1, .tp = 2});
    EXPECT_EQ(folded.dp().size(), world.size() / 2);
    EXPECT_EQ(folded.at().dp, world.rank() / 2);
  });
}

TEST(World, KnowsTheRanksOfItsHost) {
  run_ranks([](World& world) {
    EXPECT_EQ(world.local_size(), world.size());
    EXPECT_EQ(world.local_rank(), world.rank());
  });
}

}  // namespace
}  // namespace fpdist::comm
