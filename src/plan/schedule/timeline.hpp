#pragma once
// plan: what ran when, planned (simulated) or executed, for people and for Perfetto (ui.perfetto.dev).

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "fpdist/plan/op.hpp"

namespace fpdist::plan {

struct TimelineEvent {
  int rank = 0;  ///< pipeline stage, or any rank number: one track each
  Op op;
  double begin = 0, end = 0;  ///< seconds from a common start
  int64_t rows = 0;           ///< of its unit, on all ranks that hold parts of them; 0: not known
  int64_t bytes = 0;          ///< of a message, over the same ranks; 0: none, or not known
};

/// Where the events of a rank are drawn.
struct Track {
  int replica = 0, stage = 0;
  int line = 0;      ///< ranks with the same replica and line send each other messages, stage to stage
  std::string name;  ///< "stage 1", "rank 5: stage 1, cp 0, tp 1"
};
using Tracks = std::function<Track(int rank)>;
/// Ranks that are the stages of one pipeline.
Track stage_track(int rank);

/// Events in Chrome's trace format: a process a replica, a track a rank, a slice an event, an arrow from each send to
/// its receive; times in microseconds, three decimals.
std::string to_trace_json(std::span<const TimelineEvent> events, const Tracks& tracks = stage_track);

/// Events for people, one line each, by begin, then rank: "0.001250 0.002500 replica 0 stage 0 F3".
std::string to_text(std::span<const TimelineEvent> events, const Tracks& tracks = stage_track);

}  // namespace fpdist::plan
