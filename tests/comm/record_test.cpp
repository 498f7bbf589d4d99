// What a rank says of itself: its position in error texts, its last calls in the flight record. For thread and MPI
// ranks.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/core/error.hpp"
#include "tests/comm/rank_values.hpp"
#include "tests/support/ranks/run_ranks.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::comm {
namespace {

using test::error_of, test::contains, test::run_ranks;

int count_of(const std::string& whole, const std::string& part) {
  int count = 0;
  for (size_t at = whole.find(part); at != std::string::npos; at = whole.find(part, at + 1)) ++count;
  return count;
}

/// The lines of the record's calls.
std::vector<std::string> calls_of(const std::string& record) {
  std::vector<std::string> lines;
  size_t begin = record.find("\"calls\": [");
  for (size_t at = record.find("\n{", begin); at != std::string::npos; at = record.find("\n{", at + 1)) {
    lines.push_back(record.substr(at + 1, record.find('\n', at + 1) - at - 1));
  }
  return lines;
}

TEST(Position, EveryWaitThatFailsSaysIt) {
  run_ranks(
      [](World& world) {
        if (world.size() == 1) return;
        world.set_position(text("step 3, op ", world.rank(), " of 40: Receive pack 2"));
        const std::string here = text("at step 3, op ", world.rank(), " of 40: Receive pack 2");
        at::Tensor tensor = test::ones({5}, at::kDouble);
        const std::string error = error_of<CommError>([&] {
          const auto axis = world.communicator().split("pp", 0, world.rank());
          if (world.rank() > 0) axis->all_reduce(tensor);
          world.communicator().group_begin();
          world.communicator().receive(tensor, 1);  // who waits for rank 0 in a sum
          world.communicator().group_end();
        });
        EXPECT_TRUE(contains(error, here)) << error;
        EXPECT_TRUE(contains(error, world.rank() == 0 ? "group, call 1" : "all_reduce, call 1")) << error;
        EXPECT_TRUE(contains(error_of<CommError>([&] { world.communicator().barrier(); }), here));
      },
      {.timeout = std::chrono::milliseconds(150)});
}

TEST(Position, AWaitThatFailsSaysWhereItsMessagesWereStartedToo) {
  run_ranks(
      [](World& world) {
        if (world.size() == 1) return;
        at::Tensor tensor = test::ones({5}, at::kDouble);
        const std::string error = error_of<CommError>([&] {
          world.set_position("op 1");
          world.communicator().group_begin();
          world.communicator().receive(tensor, (world.rank() + 1) % world.size());
          const auto work = world.communicator().group_start();
          world.set_position("op 2");
          work->wait();
        });
        EXPECT_TRUE(contains(error, "started at op 1, now at op 2")) << error;
      },
      {.timeout = std::chrono::milliseconds(150)});
}

TEST(Position, AnAbortTellsTheOthersWhereItHappened) {
  run_ranks([](World& world) {
    if (world.size() == 1) return;
    world.set_position(text("op ", world.rank()));
    if (world.rank() == 0) world.communicator().abort("a bad row");
    const std::string error = error_of<CommError>([&] { world.communicator().barrier(); });
    EXPECT_TRUE(contains(error, text("at op ", world.rank(), ":"))) << error;
    EXPECT_TRUE(contains(error, "world rank 0 at op 0: a bad row")) << error;
  });
}

TEST(Position, ACallThatIsRefusedSaysIt) {
  run_ranks([](World& world) {
    world.set_position("op 7");
    at::Tensor tensor = test::ones({5}, at::kDouble);
    const std::string error = error_of<CommError>([&] { world.communicator().send(tensor, 0); });
    EXPECT_TRUE(contains(error, text("axis world, rank ", world.rank(), ", at op 7: send outside"))) << error;
    world.communicator().group_begin();
    const std::string inside = error_of<CommError>([&] { world.communicator().barrier(); });
    EXPECT_TRUE(contains(inside, ", at op 7: called between")) << inside;
  });
}

TEST(FlightRecord, HoldsTheLast64CallsOldestFirst) {
  run_ranks([](World& world) {
    for (int turn = 1; turn <= 70; ++turn) {
      world.set_position(text("turn ", turn));
      world.communicator().barrier();
    }
    const std::string record = world.flight_record();
    EXPECT_TRUE(contains(
        record, text("{\"rank\": ", world.rank(), ", \"world_size\": ", world.size(), ", \"position\": \"turn 70\"")))
        << record;
    const std::vector<std::string> calls = calls_of(record);
    ASSERT_EQ(calls.size(), 64u);
    for (size_t i = 0; i < calls.size(); ++i) {
      EXPECT_TRUE(
          contains(calls[i], text("{\"sequence\": ", i + 7, ", \"collective\": \"barrier\", \"axis\": \"world\"")) &&
          contains(calls[i], text("\"position\": \"turn ", i + 7, "\"")) && contains(calls[i], "\"state\": \"done\""))
          << calls[i];
    }
  });
}

TEST(FlightRecord, TellsWhatIsUnderWayFromWhatIsDone) {
  run_ranks([](World& world) {
    if (world.size() == 1) return;
    const auto axis = world.communicator().split("cp \"keys\"\n", 0, world.rank());  // must stay one line of JSON
    at::Tensor out = test::ones({5}, at::kFloat), in = test::ones({5}, at::kFloat);
    axis->group_begin();
    axis->send(out, (world.rank() + 1) % world.size());
    axis->receive(in, (world.rank() + world.size() - 1) % world.size());
    const auto work = axis->group_start();
    const auto last = [&] { return calls_of(world.flight_record()).back(); };
    EXPECT_TRUE(contains(last(),
                         "\"collective\": \"group\", \"axis\": \"cp \\\"keys\\\"\\u000a\", \"dtype\": \"Float\", "
                         "\"bytes\": 40, \"peers\": ["))
        << last();
    EXPECT_TRUE(contains(last(), text((world.rank() + 1) % world.size()))) << last();
    EXPECT_TRUE(contains(last(), "\"state\": \"started\"")) << last();
    work->wait();
    EXPECT_TRUE(contains(last(), "\"state\": \"done\"")) << last();
    world.communicator().all_reduce(out);
    EXPECT_TRUE(contains(last(), "\"collective\": \"all_reduce\", \"axis\": \"world\"")) << last();
    EXPECT_TRUE(contains(last(), "\"bytes\": 20") && contains(last(), "\"state\": \"done\"")) << last();
    EXPECT_EQ(count_of(world.flight_record(), "\"started\""), 0);
  });
}

TEST(FlightRecord, IsThereAfterAnAbortAndNamesTheCallThatFailed) {
  run_ranks([](World& world) {
    if (world.size() == 1) return;
    world.set_position("step 9");
    const std::string error = error_of<CommError>([&] {
      if (world.rank() == 0) world.communicator().abort("a bad row");
      at::Tensor tensor = test::ones({5}, at::kBFloat16);
      world.communicator().all_reduce(tensor);
    });
    EXPECT_TRUE(contains(error, "a bad row")) << error;
    const std::string record = world.flight_record();
    ASSERT_EQ(calls_of(record).size(), 1u) << record;
    EXPECT_TRUE(contains(record, "\"all_reduce\"") && contains(record, "\"BFloat16\"") &&
                contains(record, "\"failed\""))
        << record;
    EXPECT_EQ(count_of(record, "\"position\": \"step 9\""), 2) << record;
  });
}

TEST(FlightRecord, IsEmptyBeforeTheFirstCall) {
  run_ranks([](World& world) {
    EXPECT_EQ(world.flight_record(), text("{\"rank\": ", world.rank(), ", \"world_size\": ", world.size(),
                                          ", \"position\": \"\", \"calls\": []}\n"));
  });
}

}  // namespace
}  // namespace fpdist::comm
