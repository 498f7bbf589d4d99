#include "src/plan/schedule/timeline.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
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
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events[0].at("ph"), "M");
  EXPECT_EQ(events[1].at("args").at("name"), "stage 1");
  EXPECT_EQ(events[2].at("name"), "F2.1");
  EXPECT_EQ(events[2].at("tid"), 0);
  EXPECT_EQ(events[3].at("cat"), "message");
  EXPECT_EQ(events[4].at("ts"), 250000.0);
  EXPECT_EQ(events[5].at("cat"), "backward");
  EXPECT_EQ(events[5].at("dur"), 500001.0);
  EXPECT_EQ(events[5].at("args").at("slice"), 1);
}

TEST(Timeline, NoEventsAreAnEmptyTrace) {
  EXPECT_TRUE(nlohmann::json::parse(to_trace_json({})).at("traceEvents").empty());
}

TEST(Timeline, TextIsInOrderOfTime) {
  EXPECT_EQ(to_text(kEvents),
            "0.000000 0.250000 stage 0 F2.1\n0.250000 0.250000 stage 0 S2.1>1\n0.250000 0.500000 stage 1 F2.1\n"
            "0.500000 1.000001 stage 1 B2.1\n");
}

}  // namespace
}  // namespace fpdist::plan
