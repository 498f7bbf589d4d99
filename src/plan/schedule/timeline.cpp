#include "src/plan/schedule/timeline.hpp"

#include <algorithm>
#include <iomanip>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "fpdist/plan/schedule.hpp"

namespace fpdist::plan {
namespace {

std::string_view category(OpKind kind) {
  switch (kind) {
    case OpKind::kForward:
      return "forward";
    case OpKind::kBackwardInput:
      return "backward";
    case OpKind::kBackwardWeight:
      return "weight";
    case OpKind::kReduceGradients:
    case OpKind::kOptimizerStep:
      return "optimizer";
    default:
      return "message";
  }
}

/// Trace viewers nest the events of a track by their order, so they are given in order.
std::vector<TimelineEvent> in_order(std::span<const TimelineEvent> events) {
  std::vector<TimelineEvent> sorted(events.begin(), events.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const TimelineEvent& a, const TimelineEvent& b) {
    return std::tie(a.begin, a.rank) < std::tie(b.begin, b.rank);
  });
  return sorted;
}

}  // namespace

std::string to_trace_json(std::span<const TimelineEvent> events) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3) << "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  std::set<int> ranks;
  for (const TimelineEvent& event : events) ranks.insert(event.rank);
  const char* comma = "\n";
  for (const int rank : ranks) {
    out << comma << R"({"name":"thread_name","ph":"M","pid":0,"tid":)" << rank << R"(,"args":{"name":"stage )" << rank
        << "\"}}";
    comma = ",\n";
  }
  for (const TimelineEvent& event : in_order(events)) {
    out << comma << R"({"name":")" << to_string(event.op) << R"(","cat":")" << category(event.op.kind)
        << R"(","ph":"X","pid":0,"tid":)" << event.rank << ",\"ts\":" << event.begin * 1e6
        << ",\"dur\":" << (event.end - event.begin) * 1e6 << R"(,"args":{"pack":)" << event.op.pack
        << ",\"slice\":" << event.op.slice << ",\"run\":" << event.op.run << "}}";
    comma = ",\n";
  }
  out << "\n]}\n";
  return out.str();
}

std::string to_text(std::span<const TimelineEvent> events) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(6);
  for (const TimelineEvent& event : in_order(events))
    out << event.begin << ' ' << event.end << " stage " << event.rank << ' ' << to_string(event.op) << '\n';
  return out.str();
}

}  // namespace fpdist::plan
