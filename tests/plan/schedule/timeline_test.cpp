#include "src/plan/schedule/timeline.hpp"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace fpdist::plan {
namespace {

const std::vector<TimelineEvent> kEvents{{1, {OpKind::kForward, 2, 1, 0, -1}, 0.25, 0.5},
                                         {0, {OpKind::kForward, 2, 1, 0, -1}, 0, 0.25},
                                         {0, {OpKind::kSend, 2, 1, 0, 1}, 0.25, 0.25},
                                         {1, {OpKind::kBackwardInput, 2, 1, 0, -1}, 0.5, 1.000001}};

TEST(Timeline, TraceHasOneTrackARankAndAnEventAnOp) {
  const auto trace = nlohmann::json::parse(to_trace_json(kEvents));
  const auto& events = trace.at("traceEvents");
  ASSERT_EQ(events.size(), 7u);
  EXPECT_EQ(events[0].at("ph"), "M");
  EXPECT_EQ(events[0].at("args").at("name"), "replica 0");
  EXPECT_EQ(events[1].at("args").at("name"), "stage 0");
  EXPECT_EQ(events[2].at("args").at("name"), "stage 1");
  EXPECT_EQ(events[3].at("name"), "F2.1");
  EXPECT_EQ(events[3].at("tid"), 0);
  EXPECT_FALSE(events[3].at("args").contains("rows"));
  EXPECT_EQ(events[4].at("cat"), "message");
  EXPECT_EQ(events[5].at("ts"), 250000.0);
  EXPECT_EQ(events[6].at("cat"), "backward");
  EXPECT_EQ(events[6].at("dur"), 500001.0);
  EXPECT_EQ(events[6].at("args").at("slice"), 1);
}

TEST(Timeline, SendsPointAtTheirReceivesOfTheSamePipeline) {
  // Ranks 0 to 3: two replicas of two stages. Both send pack 0, the second twice (of two runs of layers).
  const auto message = [](int rank, OpKind kind, int peer, double begin) {
    return TimelineEvent{rank, {kind, 0, 0, 0, peer}, begin, begin + 0.1, 7, 448};
  };
  const std::vector<TimelineEvent> events{
      message(0, OpKind::kSend, 1, 0.1),    message(1, OpKind::kReceive, 0, 0.2),
      message(2, OpKind::kSend, 1, 0.3),    message(2, OpKind::kSend, 1, 0.5),
      message(3, OpKind::kReceive, 0, 0.4), message(3, OpKind::kReceive, 0, 0.7),
      message(3, OpKind::kReceive, 0, 0.9), message(1, OpKind::kReceiveGradient, 0, 0.9),
  };
  const auto trace = nlohmann::json::parse(
      to_trace_json(events, [](int rank) { return Track{.replica = rank / 2, .stage = rank % 2, .name = "rank"}; }));
  std::map<int, std::vector<std::pair<int, double>>> arrow;  // by id: (track, microseconds) of both ends
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") == "X") {
      EXPECT_EQ(event.at("args").at("rows"), 7);
      EXPECT_EQ(event.at("args").at("bytes"), 448);
    }
    if (event.at("ph") == "s" || event.at("ph") == "f") {
      EXPECT_EQ(event.at("pid"), event.at("tid").get<int>() / 2);
      arrow[event.at("id")].emplace_back(event.at("tid"), event.at("ts"));
    }
  }
  using Ends = std::vector<std::pair<int, double>>;
  ASSERT_EQ(arrow.size(), 3u);  // the third receive and the gradient's have no send
  EXPECT_EQ(arrow[1], (Ends{{0, 150000.0}, {1, 250000.0}}));
  EXPECT_EQ(arrow[2], (Ends{{2, 350000.0}, {3, 450000.0}}));
  EXPECT_EQ(arrow[3], (Ends{{2, 550000.0}, {3, 750000.0}}));
}

TEST(Timeline, NoEventsAreAnEmptyTrace) {
  EXPECT_TRUE(nlohmann::json::parse(to_trace_json({})).at("traceEvents").empty());
}

TEST(Timeline, TextIsInOrderOfTime) {
  EXPECT_EQ(to_text(kEvents),
            "0.000000 0.250000 replica 0 stage 0 F2.1\n0.250000 0.250000 replica 0 stage 0 S2.1>1\n"
            "0.250000 0.500000 replica 0 stage 1 F2.1\n0.500000 1.000001 replica 0 stage 1 B2.1\n");
}

}  // namespace
}  // namespace fpdist::plan
