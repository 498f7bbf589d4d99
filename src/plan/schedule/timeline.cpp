#include "src/plan/schedule/timeline.hpp"

#include <algorithm>
#include <deque>
#include <iomanip>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "fpdist/core/error.hpp"
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

bool is_send(OpKind kind) { return kind == OpKind::kSend || kind == OpKind::kSendGradient; }
bool is_receive(OpKind kind) { return kind == OpKind::kReceive || kind == OpKind::kReceiveGradient; }

/// Writes the events of a trace one after the other, commas between.
class Trace {
 public:
  explicit Trace(const Tracks& tracks) : tracks_(tracks) {
    out_ << std::fixed << std::setprecision(3) << "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  }
  void name_tracks(std::span<const TimelineEvent> events) {
    std::set<int> ranks, replicas;
    for (const TimelineEvent& event : events) ranks.insert(event.rank);
    for (const int rank : ranks) {
      const Track track = tracks_(rank);
      if (replicas.insert(track.replica).second) name("process_name", track, rank, text("replica ", track.replica));
      name("thread_name", track, rank, track.name);
    }
  }
  void add(const TimelineEvent& event) {
    begin() << R"({"name":")" << to_string(event.op) << R"(","cat":")" << category(event.op.kind) << R"(","ph":"X",)";
    place(event) << ",\"ts\":" << event.begin * 1e6 << ",\"dur\":" << (event.end - event.begin) * 1e6
                 << R"(,"args":{"pack":)" << event.op.pack << ",\"slice\":" << event.op.slice
                 << ",\"run\":" << event.op.run;
    if (event.rows > 0) out_ << ",\"rows\":" << event.rows;
    if (event.bytes > 0) out_ << ",\"bytes\":" << event.bytes;
    out_ << "}}";
  }
  /// An arrow between the middles of two events, which viewers hang on the slices that they lie in.
  void connect(const TimelineEvent& from, const TimelineEvent& to) {
    ++arrows_;
    arrow_end('s', from) << "}";
    arrow_end('f', to) << R"(,"bp":"e"})";
  }
  std::string text_of_all() {
    out_ << "\n]}\n";
    return out_.str();
  }

 private:
  std::ostream& begin() {
    out_ << comma_ << "\n";
    comma_ = ",";
    return out_;
  }
  std::ostream& place(const TimelineEvent& event) {
    return out_ << R"("pid":)" << tracks_(event.rank).replica << R"(,"tid":)" << event.rank;
  }
  void name(std::string_view what, const Track& track, int rank, std::string_view name) {
    begin() << R"({"name":")" << what << R"(","ph":"M","pid":)" << track.replica << R"(,"tid":)" << rank
            << R"(,"args":{"name":")" << name << "\"}}";
  }
  std::ostream& arrow_end(char phase, const TimelineEvent& event) {
    begin() << R"({"name":"rows","cat":"message","ph":")" << phase << R"(","id":)" << arrows_ << ",";
    return place(event) << ",\"ts\":" << (event.begin + event.end) / 2 * 1e6;
  }

  const Tracks& tracks_;
  std::ostringstream out_;
  const char* comma_ = "";
  int arrows_ = 0;
};

/// What a message is known by: the n-th send of a unit from stage to stage is received by the n-th receive.
using Message = std::tuple<int, int, bool, int, int, int, int>;
Message message_of(const TimelineEvent& event, const Track& track) {
  const bool sends = is_send(event.op.kind);
  const bool gradient = event.op.kind == OpKind::kSendGradient || event.op.kind == OpKind::kReceiveGradient;
  return {
      track.replica, track.line,    gradient, sends ? track.stage : event.op.peer, sends ? event.op.peer : track.stage,
      event.op.pack, event.op.slice};
}

}  // namespace

Track stage_track(int rank) { return {.stage = rank, .name = text("stage ", rank)}; }

std::string to_trace_json(std::span<const TimelineEvent> events, const Tracks& tracks) {
  Trace trace(tracks);
  trace.name_tracks(events);
  const std::vector<TimelineEvent> sorted = in_order(events);
  std::map<Message, std::deque<const TimelineEvent*>> sent;
  for (const TimelineEvent& event : sorted) {
    trace.add(event);
    if (is_send(event.op.kind)) sent[message_of(event, tracks(event.rank))].push_back(&event);
  }
  for (const TimelineEvent& event : sorted) {
    if (!is_receive(event.op.kind)) continue;
    std::deque<const TimelineEvent*>& from = sent[message_of(event, tracks(event.rank))];
    if (from.empty()) continue;
    trace.connect(*from.front(), event);
    from.pop_front();
  }
  return trace.text_of_all();
}

std::string to_text(std::span<const TimelineEvent> events, const Tracks& tracks) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(6);
  for (const TimelineEvent& event : in_order(events)) {
    const Track track = tracks(event.rank);
    out << event.begin << ' ' << event.end << " replica " << track.replica << ' ' << track.name << ' '
        << to_string(event.op) << '\n';
  }
  return out.str();
}

}  // namespace fpdist::plan
